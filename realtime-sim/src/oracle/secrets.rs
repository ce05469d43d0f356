//! That nothing which can be printed shows a credential (G14).

use super::{Verdict, must};

/// In every credential of a scenario; nothing that can be printed may contain it.
pub(crate) const SECRET: &str = "sesame";

/// Whether a text shows it: as it is, or as the bytes of a list.
fn shows_secret(text: &str) -> bool {
    let bytes = SECRET.as_bytes().iter().map(ToString::to_string);
    text.contains(SECRET) || text.contains(&bytes.collect::<Vec<_>>().join(", "))
}

pub(super) fn check(what: &str, text: &str) -> Verdict {
    must(!shows_secret(text), "G14", || format!("{what} shows a credential"))
}
