//! A small pool of threads that share the work of one operator.
//!
//! Operators are short (tens of microseconds), so workers spin a while before they sleep, and a job is offered, taken and
//! withdrawn without a lock or a system call while nobody sleeps. Units are taken from a common counter, many at first and
//! ever fewer: a core that is slower, or busy, takes fewer. A worker that the system does not let run in time misses the
//! operator, and nobody waits for it. Which thread computes a unit changes no result.

use sparrow_runtime::Threads;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// A cache line of its own: what one thread writes does not take it from one that waits beside it.
#[derive(Default)]
#[repr(align(128))]
struct Alone<T>(T);

#[derive(Default)]
struct Shared {
    /// Odd while there is a job to be taken.
    generation: Alone<AtomicUsize>,
    /// The first unit that nobody has taken.
    next: Alone<AtomicUsize>,
    /// Workers that hold the job, or look whether there is one.
    busy: Alone<AtomicUsize>,
    /// Written by who raised `running`, while `generation` is even and `busy` has been 0 since; read by a worker that is busy
    /// and has seen it odd.
    job: UnsafeCell<Option<Job>>,
    /// Whether a caller has the pool.
    running: AtomicBool,
    /// Workers that have started.
    ready: AtomicUsize,
    /// Workers that sleep, or are about to. Raised under the lock.
    asleep: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: the closure of a job is `Sync` and lives until every worker is done with it; `job` says who touches it when.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes units until none are left: each time a third of a thread's share of what is left, so that a core five times as
    /// slow as the others still ends with them; and not so few that threads would wait for the counter.
    fn work(&self, work: &(dyn Fn(Range<usize>) + Sync), units: usize, threads: usize) {
        let next = &self.next.0;
        let mut start = next.load(Ordering::Relaxed);
        while start < units {
            let left = units - start;
            let run = (left / (threads * 3)).max(units / (threads * 32)).clamp(1, left);
            match next.compare_exchange_weak(start, start + run, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    work(start..start + run);
                    start = next.load(Ordering::Relaxed);
                }
                Err(now) => start = now,
            }
        }
    }

    /// Whether there is a job that `seen` is not, or the end.
    fn called(&self, seen: usize) -> bool {
        let now = self.generation.0.load(Ordering::SeqCst);
        now % 2 == 1 && now != seen || self.stop.load(Ordering::Relaxed)
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
            if shared.called(seen) {
                break;
            }
            if round % PATIENCE == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if !shared.called(seen) {
            let mut lock = shared.lock();
            shared.asleep.fetch_add(1, Ordering::SeqCst);
            while !shared.called(seen) {
                lock = shared.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
            }
            shared.asleep.fetch_sub(1, Ordering::Relaxed);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // First busy, then one more look: `Finish` first withdraws, then waits for who is busy.
        shared.busy.0.fetch_add(1, Ordering::SeqCst);
        let now = shared.generation.0.load(Ordering::SeqCst);
        if now % 2 == 1 {
            seen = now;
            // SAFETY: `job` may be read.
            if let Some(Job { work, units }) = unsafe { *shared.job.get() } {
                // SAFETY: `Pool::run` keeps the closure alive until it has withdrawn the job and `busy` is 0, which this
                // worker brings about below.
                let work = unsafe { &*work };
                let run = std::panic::AssertUnwindSafe(|| shared.work(work, units, threads));
                if std::panic::catch_unwind(run).is_err() {
                    shared.panicked.store(true, Ordering::Relaxed);
                }
            }
        }
        shared.busy.0.fetch_sub(1, Ordering::Release);
    }
}

/// Withdraws the job, when dropped, waits until no worker holds it and gives the pool back: also when the caller's own part
/// panics.
struct Finish<'a> {
    shared: &'a Shared,
    /// Whether a worker panicked.
    panicked: &'a Cell<bool>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let Self { shared, panicked } = self;
        shared.generation.0.fetch_add(1, Ordering::SeqCst);
        let mut rounds = 0;
        while shared.busy.0.load(Ordering::SeqCst) != 0 {
            rounds += 1;
            if rounds < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        panicked.set(shared.panicked.load(Ordering::Relaxed));
        shared.running.store(false, Ordering::Release);
    }
}

// SAFETY: `Shared::work` takes each unit from a counter that only grows, and `Finish` waits for who has some.
unsafe impl Threads for Pool {
    fn run(&self, units: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        if units <= 1 || self.workers.is_empty() {
            return job(0..units);
        }
        let shared = &*self.shared;
        if shared.running.swap(true, Ordering::Acquire) {
            // Another thread, or a job of this one, has the pool.
            return job(0..units);
        }
        // SAFETY: only the lifetime changes; `Finish` keeps this call from ending while a worker uses the closure.
        let work: *const (dyn Fn(Range<usize>) + Sync + 'static) =
            unsafe { std::mem::transmute(job as *const (dyn Fn(Range<usize>) + Sync)) };
        // SAFETY: `job` may be written.
        unsafe { *shared.job.get() = Some(Job { work, units }) };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.panicked.store(false, Ordering::Relaxed);
        let panicked = Cell::new(false);
        {
            // Before `asleep` is read, as a worker raises it before it looks at the generation for the last time.
            shared.generation.0.fetch_add(1, Ordering::SeqCst);
            let _finish = Finish { shared, panicked: &panicked };
            if shared.asleep.load(Ordering::SeqCst) != 0 {
                // A worker that has looked sleeps once the lock is free.
                drop(shared.lock());
                shared.wake.notify_all();
            }
            shared.work(job, units, self.workers.len() + 1);
        }
        assert!(!panicked.get(), "a kernel panicked in a worker thread");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.lock());
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
    fn callers_at_one_time_each_have_all_their_units_run() {
        let pool = Pool::new(3).unwrap();
        std::thread::scope(|scope| {
            for caller in 0..3 {
                let pool = &pool;
                scope.spawn(move || {
                    for job in 0..2000 {
                        let (units, sum) = (2 + (job + caller) % 40, AtomicUsize::new(0));
                        pool.run(units, &|range| {
                            sum.fetch_add(range.map(|unit| unit + 1).sum(), Ordering::Relaxed);
                        });
                        assert_eq!(sum.load(Ordering::Relaxed), units * (units + 1) / 2, "caller {caller}, job {job}");
                        // Now and then all workers fall asleep.
                        if job % 500 == 0 {
                            std::thread::sleep(std::time::Duration::from_millis(5));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_job_that_runs_another_does_it_alone() {
        let pool = Pool::new(2).unwrap();
        let sum = AtomicUsize::new(0);
        pool.run(8, &|outer| {
            for _ in outer {
                pool.run(8, &|inner| {
                    sum.fetch_add(inner.len(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 64);
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
        pool.run(64, &|range| {
            sum.fetch_add(range.len(), Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 64);
    }
}
