//! Simulation and property checks for the Realtime core.

pub mod fuzz;
