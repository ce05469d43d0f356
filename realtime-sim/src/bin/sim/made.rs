//! Files that the command makes: beside what cargo makes, where nobody would commit them.

use std::path::{Path, PathBuf};

/// The path of such a file, seen from here.
pub(super) fn path(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    let target = match (target, std::env::current_dir()) {
        (Some(target), _) => target.into(),
        (None, Ok(here)) => target_of(&here),
        (None, Err(_)) => std::env::temp_dir(),
    };
    target.join("sim").join(name)
}

/// The folder of what cargo makes of the package around a folder: that of its workspace, if it is
/// in one.
fn target_of(here: &Path) -> PathBuf {
    let manifest = |folder: &&Path| folder.join("Cargo.toml").is_file();
    let is_workspace = |folder: &&Path| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
        manifest.is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
    };
    let root = here.ancestors().find(is_workspace).or_else(|| here.ancestors().find(manifest));
    match root {
        Some(root) if root == here => "target".into(),
        Some(root) => root.join("target"),
        None => std::env::temp_dir(),
    }
}

/// Writes a file, and its folder if there is none; or says why it cannot be.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), std::fs::create_dir_all);
    let written = made.and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// A path as a shell reads it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_makes_goes_to_the_target_of_the_workspace_from_everywhere_in_it() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().expect("a workspace");
        assert_eq!(target_of(root), Path::new("target"));
        assert_eq!(target_of(package), root.join("target"));
        assert_eq!(target_of(&package.join("src")), root.join("target"));
        assert_eq!(target_of(Path::new("/")), std::env::temp_dir());
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_read_it_otherwise() {
        for (path, expected) in [
            ("target/sim/seed-7-swarm.scenario", "target/sim/seed-7-swarm.scenario"),
            ("my files/a.scenario", "'my files/a.scenario'"),
            ("it's/$HOME", r"'it'\''s/$HOME'"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
