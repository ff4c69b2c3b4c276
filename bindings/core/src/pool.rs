//! A small pool of threads that share the work of one operator.
//!
//! Operators are short (tens of microseconds), so workers spin a while before they sleep. Units are taken from a common
//! counter in small runs: a core that is slower, or busy, takes fewer. A worker that the system does not let run in time
//! misses the operator, and nobody waits for it. Which thread computes a unit changes no result.

use sparrow_runtime::Threads;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of the wait loop before a worker sleeps; some tens of microseconds.
const SPINS: usize = 20_000;

/// Rounds of waiting before a thread lets others have its core: it may be the one that the other thread needs.
const PATIENCE: usize = 500;

/// The job of the moment, its lifetime erased: `Pool::run` does not return before every worker has let go of it.
#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(Range<usize>) + Sync),
    units: usize,
}

// SAFETY: the closure is `Sync`, and lives until every worker is done with it.
unsafe impl Send for Job {}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Number of the job; odd numbers never occur, so that a change is always seen.
    generation: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have started.
    ready: AtomicUsize,
    /// Workers that hold the job. Raised under the lock, while there is one.
    busy: AtomicUsize,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    stop: bool,
    panicked: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes units until none are left.
    fn work(&self, work: &(dyn Fn(Range<usize>) + Sync), units: usize, threads: usize) {
        let run = (units / (threads * 8)).max(1);
        loop {
            let start = self.next.fetch_add(run, Ordering::Relaxed);
            if start >= units {
                return;
            }
            work(start..(start + run).min(units));
        }
    }
}

/// Threads that help with every operator of a run.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.workers.len() + 1)
    }
}

impl Pool {
    /// A pool of `threads` threads in all, the caller's included.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let mut pool = Self { shared: Arc::default(), workers: Vec::new() };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("sparrow-{number}"))
                .spawn(move || worker(&shared, threads))?;
            pool.workers.push(worker);
        }
        // A thread that starts allocates; a run does not.
        while pool.shared.ready.load(Ordering::Acquire) < pool.workers.len() {
            std::thread::yield_now();
        }
        Ok(pool)
    }
}

fn worker(shared: &Shared, threads: usize) {
    shared.ready.fetch_add(1, Ordering::Release);
    let mut seen = 0;
    loop {
        for round in 1..=SPINS {
            if shared.generation.load(Ordering::Acquire) != seen {
                break;
            }
            if round % PATIENCE == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let mut state = shared.lock();
        while shared.generation.load(Ordering::Acquire) == seen && !state.stop {
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        seen = shared.generation.load(Ordering::Acquire);
        let job = state.job;
        if job.is_some() {
            shared.busy.fetch_add(1, Ordering::Relaxed);
        }
        drop(state);
        if let Some(Job { work, units }) = job {
            // SAFETY: `Pool::run` keeps the closure alive until it has withdrawn the job and `busy` is 0, which this worker
            // brings about below.
            let work = unsafe { &*work };
            let run = std::panic::AssertUnwindSafe(|| shared.work(work, units, threads));
            if std::panic::catch_unwind(run).is_err() {
                shared.lock().panicked = true;
            }
            shared.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Withdraws the job, when dropped, and waits until no worker holds it: also when the caller's own part panics.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.lock().job = None;
        let mut rounds = 0;
        while self.0.busy.load(Ordering::Acquire) != 0 {
            rounds += 1;
            if rounds < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Threads for Pool {
    fn run(&self, units: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        if units <= 1 || self.workers.is_empty() {
            return job(0..units);
        }
        let shared = &*self.shared;
        {
            let mut state = shared.lock();
            // SAFETY: only the lifetime changes; `Finish` keeps this call from ending while a worker uses the closure.
            let work: *const (dyn Fn(Range<usize>) + Sync + 'static) =
                unsafe { std::mem::transmute(job as *const (dyn Fn(Range<usize>) + Sync)) };
            state.job = Some(Job { work, units });
            shared.next.store(0, Ordering::Relaxed);
            shared.generation.fetch_add(2, Ordering::Release);
        }
        shared.wake.notify_all();
        {
            let _finish = Finish(shared);
            shared.work(job, units, self.workers.len() + 1);
        }
        assert!(!std::mem::take(&mut shared.lock().panicked), "a kernel panicked in a worker thread");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.generation.fetch_add(2, Ordering::Release);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker ends by itself; that it panicked has been said by `run`.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_run_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            for units in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
                pool.run(units, &|range| {
                    for i in range {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {units} units");
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_worker_that_does_not_come() {
        let pool = Pool { shared: Arc::default(), workers: vec![std::thread::spawn(|| {})] };
        let sum = AtomicUsize::new(0);
        pool.run(64, &|range| {
            sum.fetch_add(range.len(), Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 64);
    }

    #[test]
    fn a_panic_in_a_worker_is_passed_on_and_the_pool_stays_usable() {
        let pool = Pool::new(2).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(64, &|_| panic!("boom"))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        // A worker's own panic of the first job may still be noted: it was passed on with the caller's.
        pool.shared.lock().panicked = false;
        pool.run(64, &|range| {
            sum.fetch_add(range.len(), Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 64);
    }
}
