//! Builds an image without the command line around it, a line of output a stage. The tests kill it.
//!
//! `build CACHE PACKAGES [--lock FILE] [--locked] [--refresh] [--tree DIR] [--initrd INIT MODULES]`
//! where PACKAGES is a list of names or `@FILE`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use std::{env, fs};

use archibald_image::{
    Cache, Cancel, Contention, Initrd, Lock, Progress, Recipe, Request, Stage, Tools, guest_tree,
    package_list,
};

struct Lines(Mutex<Option<(Stage, Instant)>>);

impl Progress for Lines {
    fn stage(&self, stage: Stage) {
        if let Ok(mut last) = self.0.lock() {
            if let Some((last, since)) = last.replace((stage, Instant::now())) {
                println!("took {last}: {:.1} s", since.elapsed().as_secs_f64());
            }
        }
        println!("stage {stage}");
    }

    fn detail(&self, line: &str) {
        if env::var_os("DETAIL").is_some() {
            println!("  {line}");
        }
    }

    fn warning(&self, line: &str) {
        println!("warning {line}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let cache = words.next().ok_or("which cache?")?;
    let packages = words.next().ok_or("which packages?")?;
    let packages = match packages.strip_prefix('@') {
        Some(file) => fs::read_to_string(file)?,
        None => packages,
    };
    let recipe = Recipe::debian(package_list(&packages), None)?;
    let mut request = Request {
        recipe,
        lock: None,
        locked: false,
        refresh: false,
        guest: Vec::new(),
        initrd: None,
    };
    let mut lock_to: Option<PathBuf> = None;
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or("a word is missing");
        match word.as_str() {
            "--lock" => request.lock = Some(Lock::read(Path::new(&next()?))?),
            "--write-lock" => lock_to = Some(next()?.into()),
            "--locked" => request.locked = true,
            "--refresh" => request.refresh = true,
            "--tree" => request.guest = guest_tree(Path::new(&next()?))?,
            "--initrd" => {
                let init = next()?.into();
                let modules = package_list(&fs::read_to_string(next()?)?);
                request.initrd = Some(Initrd { init, modules });
            }
            other => return Err(format!("what is {other}?").into()),
        }
    }
    let tools = Tools::in_path(&env::var_os("PATH").unwrap_or_default());
    let cache = Cache::open(Path::new(&cache), tools)?;
    let start = Instant::now();
    let image =
        cache.build(&request, Contention::Wait, &Lines(Mutex::default()), &Cancel::new())?;
    println!("done in {:.1} s", start.elapsed().as_secs_f64());
    if let Some(path) = lock_to {
        Lock::from_manifest(image.manifest()).write(&path)?;
    }
    println!("image {}", image.dir().display());
    Ok(())
}
