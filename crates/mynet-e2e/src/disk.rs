//! Small disks that can be filled: a file system in memory of a given size, mounted for one test.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A mounted file system; it goes when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

/// Runs a program as root: directly, or through sudo where that needs no password.
fn as_root(args: &[&str]) -> Result<()> {
    let shown = args.join(" ");
    let script = r#"if [ "$(id -u)" -eq 0 ]; then exec "$@"; else exec sudo -n "$@"; fi"#;
    let done = Command::new("sh")
        .args(["-c", script, "sh"])
        .args(args)
        .output()
        .with_context(|| format!("start `{shown}`"))?;
    let why = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "`{shown}` needs root, directly or by sudo without a password: {why}");
    Ok(())
}

impl SmallDisk {
    /// Makes the directory `path` a file system of `mebibytes`.
    ///
    /// # Errors
    /// If it cannot be mounted, most often because nobody here is root.
    pub fn mount(path: &Path, mebibytes: u32) -> Result<Self> {
        fs::create_dir_all(path).context("make the mount point")?;
        let text = path.to_str().context("temporary directories are UTF-8")?;
        as_root(&["mount", "-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0777"), "mynet-test", text])?;
        Ok(Self { path: path.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Fills the disk, as another program would, until `left` bytes are free.
    ///
    /// # Errors
    /// If the filler cannot be written for another reason than the full disk.
    pub fn fill(&self, left: u64) -> Result<()> {
        let mut filler = File::create(self.filler()).context("make the filler")?;
        let block = vec![0; 64 * 1024];
        loop {
            match filler.write(&block) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("write the filler"),
            }
        }
        let size = filler.metadata().context("look at the filler")?.len();
        filler.set_len(size.saturating_sub(left)).context("shorten the filler")
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// If the filler cannot be removed.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove the filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node may still run in it. What is left goes with the machine's memory.
        if let Err(error) = as_root(&["umount", "-l", &self.path.to_string_lossy()]) {
            eprintln!("{} stays mounted: {error:#}", self.path.display());
        }
    }
}
