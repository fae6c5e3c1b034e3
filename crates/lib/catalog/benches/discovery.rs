//! How long it takes to discover a thousand models with the tokenizers of current ones, beside plain reads of their headers.
//!
//! `cargo bench -p llama-warden-catalog --bench discovery -- ROUNDS`: each line on stdout is a pair of measurements. `whole`:
//! milliseconds of a discovery, and of as many threads that read every header from its first byte to its last and throw it
//! away. `prefix`: KiB that a discovery has read of each file, and the KiB of the file's header; the file has gigabytes, most
//! of them a hole. Everything is in the page cache by then. `cargo xtask bench` judges.

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/gguf.rs"]
mod support;

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use llama_warden_catalog::{DirectoryLinks, discover};
use support::{Gguf, GgufValue};

/// Models looked at.
const MODELS: usize = 1000;
/// Files with content of their own; the others are further names of these, which saves disk space.
const DISTINCT: usize = 20;
/// Words of a tokenizer, as in a current model.
const WORDS: usize = 150_000;
/// Bytes of a plain read.
const CHUNK: usize = 64 << 10;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // Cargo passes --bench to every benchmark.
    let Some(rounds) = std::env::args().skip(1).find(|argument| argument != "--bench") else {
        println!("nothing is measured without ROUNDS");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let models = ModelFolder::generate(folder.path())?;
    // The first round fills the page cache.
    models.discover()?;
    models.read_plainly()?;
    for _ in 0..rounds.parse::<usize>()? {
        let before = read_so_far()?;
        let ours = models.discover()?;
        let read = read_so_far()? - before;
        println!("whole {ours} {}", models.read_plainly()?);
        println!("prefix {} {}", read as f64 / MODELS as f64 / 1024.0, models.header_bytes as f64 / 1024.0);
    }
    Ok(())
}

/// The models.
struct ModelFolder {
    folder: PathBuf,
    files: Vec<PathBuf>,
    header_bytes: u64,
}

impl ModelFolder {
    fn generate(folder: &Path) -> Result<Self> {
        let texts = |length: usize| GgufValue::Texts((0..WORDS).map(|word| format!("{word:0length$}")).collect());
        let model = Gguf::model("qwen3")
            .with("qwen3.context_length", 40_960)
            .with("tokenizer.ggml.tokens", texts(6))
            .with("tokenizer.ggml.token_type", GgufValue::I32s(vec![1; WORDS]))
            .with("tokenizer.ggml.merges", texts(9))
            .with("tokenizer.chat_template", "x".repeat(4000).as_str());
        let model = (0..400).fold(model, |model, _| model.tensor(&[4096], 0));
        let path = |index: usize| folder.join(format!("{index}/Model-{index}-8B-Q4_K_M.gguf"));
        for index in 0..MODELS {
            if index < DISTINCT {
                model.write(&path(index))?;
            } else {
                fs::create_dir(folder.join(index.to_string()))?;
                fs::hard_link(path(index % DISTINCT), path(index))?;
            }
        }
        let header_bytes = model.header().len() as u64;
        Ok(Self { folder: folder.to_owned(), files: (0..MODELS).map(path).collect(), header_bytes })
    }

    /// Discovers, and returns how many milliseconds that took.
    fn discover(&self) -> Result<f64> {
        let began = Instant::now();
        let report = discover(std::slice::from_ref(&self.folder), DirectoryLinks::Reported);
        let took = milliseconds(began);
        match (report.models.len(), report.problems.as_slice()) {
            (MODELS, []) => Ok(took),
            (found, problems) => Err(format!("{found} models found, with these problems: {problems:?}").into()),
        }
    }

    /// Reads every header, and returns how many milliseconds that took.
    fn read_plainly(&self) -> Result<f64> {
        let next = AtomicUsize::new(0);
        let work = || -> std::io::Result<()> {
            let mut buffer = vec![0; CHUNK];
            while let Some(file) = self.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut header = File::open(file)?.take(self.header_bytes);
                while header.read(&mut buffer)? > 0 {}
            }
            Ok(())
        };
        let threads = thread::available_parallelism()?.get();
        let began = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a reader panicked")?.map_err(Box::from))
        })
        .map(|()| milliseconds(began))
    }
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Bytes that this process has read so far, by what it asked the kernel for.
fn read_so_far() -> Result<u64> {
    let counters = fs::read_to_string("/proc/self/io")?;
    let read = counters.lines().find_map(|line| line.strip_prefix("rchar:")).ok_or("the kernel counts no reads")?;
    Ok(read.trim().parse()?)
}
