//! Ten thousand entities on one manager, against the local server over real sockets.
//!
//! `cargo bench --package realtime-tests --bench manager_load` prints how long it takes until all
//! are live, what one costs, and that nothing is left after the clean-up, twice: what is left
//! after the first time is room that the second uses again. Memory is what the manager's thread
//! holds: machine, sockets, handles and their queues; the server has its own.
#![expect(clippy::print_stdout, reason = "it is what the command is for")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::error::Error;
use core::time::Duration;
use std::alloc::System;
use std::time::Instant;

use realtime_proto::Config;
use realtime_proto::manager::{Entity, EntityOptions, ManagerConfig};
use realtime_smol::{DevServer, DevServerConfig, Manager, Options};
use smol::Timer;
use smol::future::{FutureExt, block_on};

const ENTITIES: usize = 10_000;
/// How long a connection stays that has no channel any more.
const IDLE_AFTER: Duration = Duration::from_millis(500);

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread holds.
struct Counting;

/// Counts round the clock, since a thread may free what another one allocated.
fn count(change: impl Fn(usize) -> usize) {
    // A thread that ends has no count any more.
    let _ = HELD.try_with(|held| held.set(change(held.get())));
}

#[expect(unsafe_code, reason = "a global allocator is unsafe to write; it passes everything on")]
// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local
// that needs neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|held| held.wrapping_add(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(|held| held.wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many bytes more this thread holds than at the time of `before`.
fn held_since(before: usize) -> usize {
    let more = HELD.with(Cell::get).wrapping_sub(before);
    if more > usize::MAX / 2 { 0 } else { more }
}

async fn load(manager: &Manager) -> Result<(), Box<dyn Error>> {
    let warm = Entity::new("warm", "up");
    manager.subscribe_to_entity(&warm, EntityOptions::default()).await?.live().await?;
    manager.cleanup_all_channels().await?;
    let before = HELD.with(Cell::get);
    let first = cycle(manager, before).await?;
    let second = cycle(manager, before).await?;
    assert!(second < first + first / 10, "it grows with every clean-up: {first} to {second} bytes");
    Ok(())
}

/// Has all entities live and cleans up; how many bytes are held after that.
async fn cycle(manager: &Manager, before: usize) -> Result<usize, Box<dyn Error>> {
    let start = Instant::now();
    let mut leases = Vec::with_capacity(ENTITIES);
    for id in 0..ENTITIES {
        let entity = Entity::new("contact", id.to_string()).in_tenant("acme");
        leases.push(manager.subscribe_to_entity(&entity, EntityOptions::default()).await?);
    }
    let asked = start.elapsed();
    for lease in &leases {
        lease.live().await?;
    }
    let live = start.elapsed();
    let stats = manager.channel_stats().await?;
    assert_eq!(stats.by_status.get("live"), Some(&ENTITIES), "all are live");
    let connections = stats.connections.len();
    drop(stats);
    let each = held_since(before) / ENTITIES;
    println!("entities            {ENTITIES}, over {connections} connections");
    println!("asked for in        {:.2} s", asked.as_secs_f64());
    println!("all live after      {:.2} s", live.as_secs_f64());
    println!("memory an entity    {each} bytes");

    let start = Instant::now();
    manager.cleanup_all_channels().await?;
    println!("cleaned up in       {:.2} s", start.elapsed().as_secs_f64());
    drop(leases);
    while manager.channel_stats().await?.connections.len() > 1 {
        Timer::after(IDLE_AFTER).await;
    }
    let stats = manager.channel_stats().await?;
    assert_eq!((stats.total, stats.held.len()), (0, 0), "no channel and no lease is left");
    let left = held_since(before);
    println!("left after clean-up {left} bytes, {} connection\n", stats.connections.len());
    Ok(left)
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
    let client = Config::builder(server.url()).disconnect_when_empty_after(Some(IDLE_AFTER));
    let config = ManagerConfig::new(client.build()?);
    let (manager, driver) = Manager::connect_with_driver(config, &Options::default());
    // On this thread, so that its memory is the manager's.
    let ended = async {
        driver.await;
        Err("the manager ended by itself".into())
    };
    block_on(load(&manager).or(ended))
}
