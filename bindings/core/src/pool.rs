//! A small pool of threads that share the work of one operator.
//!
//! Operators are short (tens of microseconds), so workers spin a while before they sleep, and a job is offered, taken and
//! withdrawn without a lock or a system call while nobody sleeps. Each thread has a share of the units, the same part of every
//! operator, so that what it reads is mostly what it wrote and lies in its core's cache. It takes them many at first and ever
//! fewer, and then from the ends of the others' shares: a core that is slower, or busy, computes less. A worker that the system
//! does not let run in time misses the operator, and nobody waits for it. Which thread computes a unit changes no result.

use sparrow_runtime::Threads;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of the wait loop before a worker sleeps; some tens of microseconds.
const SPINS: usize = 20_000;

/// Rounds of waiting before a thread lets others have its core: it may be the one that the other thread needs.
const PATIENCE: usize = 500;

/// The weight of a thread that computes every unit.
const WHOLE: u32 = 1 << 16;

/// The job of the moment, its lifetime erased: `Pool::run` does not return before every worker has let go of it.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(Range<usize>) + Sync));

/// A thread's part of an operator.
#[derive(Default)]
struct Share {
    /// The first unit that nobody has taken, and 32 bits higher the end.
    left: AtomicU64,
    /// Units that the thread has computed, its own and others'.
    done: AtomicU32,
    /// The part of the latest operators that the thread computed, later ones counting more: what its shares are in proportion
    /// to. Changed between operators by who raised `running`.
    weight: AtomicU32,
}

impl Share {
    fn put(&self, units: Range<u32>) {
        self.left.store(u64::from(units.start) | u64::from(units.end) << 32, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Takes units: three quarters of those left from the start, if they are the thread's own, else `mine` of `both` parts from
    /// the end; one at least.
    fn take(&self, own: bool, mine: u64, both: u64) -> Option<Range<u32>> {
        let mut now = self.left.load(Ordering::Relaxed);
        loop {
            let (start, end) = (now as u32, (now >> 32) as u32);
            let left = end.saturating_sub(start);
            if left == 0 {
                return None;
            }
            let run = if own { left - left / 4 } else { (u64::from(left) * mine / both) as u32 }.max(1);
            let (taken, start, end) =
                if own { (start..start + run, start + run, end) } else { (end - run..end, start, end - run) };
            let left = u64::from(start) | u64::from(end) << 32;
            match self.left.compare_exchange_weak(now, left, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(other) => now = other,
            }
        }
    }
}

/// A cache line of its own: what one thread writes does not take it from one that waits beside it.
#[derive(Default)]
#[repr(align(128))]
struct Alone<T>(T);

#[derive(Default)]
struct Shared {
    /// Odd while there is a job to be taken.
    generation: Alone<AtomicUsize>,
    /// Of each thread, the caller's first.
    shares: Vec<Alone<Share>>,
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
    fn new(threads: usize) -> Self {
        let share = |_| Alone(Share { weight: WHOLE.into(), ..Share::default() });
        Self { shares: (0..threads.max(1)).map(share).collect(), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the units of an operator into shares: equal ones, unless a thread has long been much slower than another.
    fn deal(&self, units: u32) {
        let weight = |share: &Alone<Share>| share.0.weight.load(Ordering::Relaxed);
        let (mut least, mut most, mut sum) = (u32::MAX, 0, 0);
        for weight in self.shares.iter().map(weight) {
            (least, most, sum) = (least.min(weight), most.max(weight), sum + weight);
        }
        let unequal = least < most / 3 * 2;
        if !unequal {
            sum = self.shares.len() as u32;
        }
        let (mut start, mut before) = (0, 0);
        for share in &self.shares {
            before += if unequal { weight(share) } else { 1 };
            let end = (u64::from(units) * u64::from(before) / u64::from(sum)) as u32;
            share.0.put(start..end);
            start = end;
        }
    }

    /// Computes units until none are left, `thread`'s own first: three quarters, three quarters of what is left, and so on, so
    /// that another can do its last ones; of another's as large a part of what is left as suits the two.
    #[inline(never)]
    fn work(&self, work: &(dyn Fn(Range<usize>) + Sync), thread: usize) {
        let own = &self.shares[thread].0;
        let weight = |share: &Share| u64::from(share.weight.load(Ordering::Relaxed));
        let (mine, mut done, mut other) = (weight(own), 0, thread);
        loop {
            let share = &self.shares[other].0;
            let both = (mine + weight(share)).max(1);
            while let Some(units) = share.take(other == thread, mine, both) {
                work(units.start as usize..units.end as usize);
                done += units.end - units.start;
            }
            other = if other + 1 == self.shares.len() { 0 } else { other + 1 };
            if other == thread {
                return own.done.store(done, Ordering::Relaxed);
            }
        }
    }

    /// Learns from what each thread has computed of an operator.
    fn learn(&self, units: u32) {
        for share in &self.shares {
            let part = u64::from(share.0.done.load(Ordering::Relaxed)) * u64::from(WHOLE) / u64::from(units);
            let weight = share.0.weight.load(Ordering::Relaxed);
            share.0.weight.store(weight - weight / 4 + part as u32 / 4, Ordering::Relaxed);
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
        let mut pool = Self { shared: Arc::new(Shared::new(threads)), workers: Vec::new() };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker =
                std::thread::Builder::new().name(format!("sparrow-{number}")).spawn(move || worker(&shared, number))?;
            pool.workers.push(worker);
        }
        // A thread that starts allocates; a run does not.
        while pool.shared.ready.load(Ordering::Acquire) < pool.workers.len() {
            std::thread::yield_now();
        }
        Ok(pool)
    }
}

fn worker(shared: &Shared, number: usize) {
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
            if let Some(Job(work)) = unsafe { *shared.job.get() } {
                // SAFETY: `Pool::run` keeps the closure alive until it has withdrawn the job and `busy` is 0, which this
                // worker brings about below.
                let work = unsafe { &*work };
                let run = std::panic::AssertUnwindSafe(|| shared.work(work, number));
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
    units: u32,
    /// Whether a worker panicked.
    panicked: &'a Cell<bool>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let Self { shared, units, panicked } = self;
        shared.generation.0.fetch_add(1, Ordering::SeqCst);
        let mut rounds = 0;
        while shared.busy.0.load(Ordering::SeqCst) != 0 {
            rounds += 1;
            if rounds < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        shared.learn(*units);
        panicked.set(shared.panicked.load(Ordering::Relaxed));
        shared.running.store(false, Ordering::Release);
    }
}

// SAFETY: `Share::take` hands out each unit once, and `Finish` waits for who has some.
unsafe impl Threads for Pool {
    fn run(&self, units: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let shared = &*self.shared;
        let (true, Ok(all)) = (units > 1 && !self.workers.is_empty(), u32::try_from(units)) else {
            return job(0..units);
        };
        if shared.running.swap(true, Ordering::Acquire) {
            // Another thread, or a job of this one, has the pool.
            return job(0..units);
        }
        // SAFETY: only the lifetime changes; `Finish` keeps this call from ending while a worker uses the closure.
        let work: *const (dyn Fn(Range<usize>) + Sync + 'static) =
            unsafe { std::mem::transmute(job as *const (dyn Fn(Range<usize>) + Sync)) };
        // SAFETY: `job` may be written.
        unsafe { *shared.job.get() = Some(Job(work)) };
        shared.deal(all);
        shared.panicked.store(false, Ordering::Relaxed);
        let panicked = Cell::new(false);
        {
            // Before `asleep` is read, as a worker raises it before it looks at the generation for the last time.
            shared.generation.0.fetch_add(1, Ordering::SeqCst);
            let _finish = Finish { shared, units: all, panicked: &panicked };
            if shared.asleep.load(Ordering::SeqCst) != 0 {
                // A worker that has looked sleeps once the lock is free.
                drop(shared.lock());
                shared.wake.notify_all();
            }
            shared.work(job, 0);
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
    fn shares_follow_what_threads_compute() {
        let pool = Pool::new(2).unwrap();
        let caller = std::thread::current().id();
        let dealt = || {
            pool.shared.deal(64);
            (pool.shared.shares[0].0.left.load(Ordering::Relaxed) >> 32) as usize
        };
        // 100 operators, in which the caller, or else the worker, needs as long for its first units as the other for all it gets.
        let slow = |slow_caller: bool| {
            for _ in 0..100 {
                let (done, late) = (AtomicUsize::new(0), AtomicBool::new(false));
                pool.run(64, &|range| {
                    let slow = (std::thread::current().id() == caller) == slow_caller;
                    while slow && !late.load(Ordering::Relaxed) && done.load(Ordering::Relaxed) + range.len() < 64 {
                        std::thread::yield_now();
                    }
                    late.fetch_or(slow, Ordering::Relaxed);
                    done.fetch_add(range.len(), Ordering::Relaxed);
                });
            }
        };
        assert_eq!(dealt(), 32);
        slow(false);
        assert!(dealt() >= 56, "the caller has {} of 64 units beside a slow worker", dealt());
        slow(true);
        assert!(dealt() <= 8, "the slow caller has {} of 64 units", dealt());
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
        let pool = Pool { shared: Arc::new(Shared::new(2)), workers: vec![std::thread::spawn(|| {})] };
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
