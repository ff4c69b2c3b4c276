//! The API on a real network: what it computes, how it stops, what it refuses.

mod common;

use common::{features, file, pictures, stored};
use sparrow::{AlignedBytes, DType, Error, Features, MAX_THREADS, Model, Options, Session, runtime};
use std::sync::atomic::{AtomicBool, Ordering};

fn model() -> Model {
    Model::from_bytes(file()).expect("opens")
}

fn run(session: &mut Session, picture: &[f32]) -> Vec<u8> {
    session.input_mut::<f32>(0).expect("takes floats").copy_from_slice(picture);
    session.run().expect("runs");
    session.output_bytes(0).expect("has an output").to_vec()
}

#[test]
fn entry_points_say_what_goes_in_and_out() {
    let entries = model().entries();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let [input, output] = [&entry.inputs[..], &entry.outputs[..]].map(|list| {
        let [one] = list else { panic!("{list:?}") };
        one
    });
    assert_eq!((input.name.as_str(), input.dtype, &input.dims[..]), ("image", DType::F32, &[1, 1, 28, 28][..]));
    assert_eq!((output.name.as_str(), output.dtype, &output.dims[..]), ("logits", DType::F32, &[1, 10][..]));
    assert!(entry.arena_size > 28 * 28 * 4);
}

#[test]
fn mapped_copied_and_aligned_models_compute_the_same_and_mostly_right() {
    let (_folder, path) = stored();
    let models = [Model::open(path).unwrap(), model(), Model::from_aligned(AlignedBytes::copy_of(file())).unwrap()];
    models.iter().for_each(|m| m.verify().unwrap());
    let mut sessions = models.map(|m| Session::new(&m, &Options::default()).unwrap());
    let mut right = 0;
    for (picture, class) in &pictures()[..200] {
        let [first, rest @ ..] = sessions.each_mut().map(|session| run(session, picture));
        assert!(rest.iter().all(|other| *other == first));
        let scores = sessions[0].output::<f32>(0).unwrap();
        right += usize::from((0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b])) == Some(*class));
    }
    assert!(right >= 180, "{right} of 200");
}

#[test]
fn threads_and_features_change_no_byte_of_an_integer_network() {
    let picture = &pictures()[0].0;
    let model = Model::from_bytes(features()).unwrap();
    let expected = run(&mut Session::new(&model, &Options::default()).unwrap(), picture);
    for (threads, features) in [(0, u32::MAX), (2, u32::MAX), (3, u32::MAX), (8, 0), (1, 0), (1, Features::AVX2.0)] {
        let options = Options { threads, features: Features(features), entry: 0 };
        let mut session = Session::new(&model, &options).unwrap();
        if features == 0 {
            assert!(session.op_kernels().iter().all(|kernel| kernel.requires == Features::NONE));
        }
        for _ in 0..20 {
            assert_eq!(run(&mut session, picture), expected, "{options:?}");
        }
    }
}

#[test]
fn sessions_of_one_model_run_on_eight_threads() {
    let (model, pictures) = (model(), &pictures()[..8]);
    let expected = |picture| run(&mut Session::new(&model, &Options::default()).unwrap(), picture);
    std::thread::scope(|scope| {
        for (picture, _) in pictures {
            scope.spawn(|| {
                let mut session = Session::new(&model, &Options::default()).unwrap();
                let expected = expected(picture);
                (0..50).for_each(|_| assert_eq!(run(&mut session, picture), expected));
            });
        }
    });
}

#[test]
fn a_cancel_stops_one_run() {
    let picture = &pictures()[0].0;
    let mut session = Session::new(&model(), &Options::default()).unwrap();
    let expected = run(&mut session, picture);
    session.canceller().cancel();
    let error = session.run().unwrap_err();
    assert!(error.is_cancelled() && error.number() == 18, "{error}");
    assert_eq!(run(&mut session, picture), expected);
}

#[test]
fn another_thread_cancels_a_run_under_way() {
    let mut session = Session::new(&model(), &Options { threads: 2, ..Options::default() }).unwrap();
    let (canceller, done) = (session.canceller(), AtomicBool::new(false));
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            canceller.cancel();
            done.store(true, Ordering::Release);
        });
        let mut operators = 0;
        let error = session.run_with(|_, _| {
            operators += 1;
            begun.store(true, Ordering::Release);
            // The run waits inside its first operator's announcement until the cancel has come.
            while !done.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            std::ops::ControlFlow::Continue(())
        });
        assert!(error.is_err_and(|e| e.is_cancelled()));
        assert_eq!(operators, 1);
    });
}

#[test]
fn a_profile_names_every_operator() {
    let mut session = Session::new(&model(), &Options::default()).unwrap();
    let kernels: Vec<_> = session.op_kernels().iter().map(|k| k.name).collect();
    let profile = session.profile().unwrap();
    assert_eq!(profile.ops.iter().map(|op| op.kernel).collect::<Vec<_>>(), kernels);
    assert!(profile.ops.iter().any(|op| op.time.as_nanos() > 0));
}

/// Memory that begins `shift` bytes after a multiple of 64.
struct Shifted(AlignedBytes, usize);

impl AsMut<[u8]> for Shifted {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0.as_mut_slice()[self.1..]
    }
}

#[test]
fn a_host_brings_the_arena() {
    let model = model();
    let size = model.entries()[0].arena_size;
    let with = |size, shift| {
        let arena = Shifted(AlignedBytes::zeroed(size + shift), shift);
        Session::with_arena(&model, &Options::default(), Box::new(arena))
    };
    for (size, shift) in [(size - 1, 0), (size, 8), (0, 0)] {
        let error = with(size, shift).unwrap_err();
        assert!(matches!(error, Error::Runtime(runtime::Error::Arena { .. })), "{error}");
    }
    let picture = &pictures()[0].0;
    let expected = run(&mut Session::new(&model, &Options::default()).unwrap(), picture);
    assert_eq!(run(&mut with(size, 0).unwrap(), picture), expected);
    assert_eq!(run(&mut with(size, 64).unwrap(), picture), expected);
}

#[test]
fn what_cannot_be_is_refused_with_a_number_and_a_reason() {
    let (folder, path) = stored();
    let model = model();
    let mut session = Session::new(&model, &Options::default()).unwrap();
    let damaged = folder.path().join("damaged.spw");
    std::fs::write(&damaged, &file()[..file().len() / 2]).unwrap();
    let noise = folder.path().join("noise.spw");
    std::fs::write(&noise, [7; 200]).unwrap();
    let empty = folder.path().join("empty.spw");
    std::fs::write(&empty, []).unwrap();
    let options = Options::default();
    let cases = [
        (Model::open(folder.path()).unwrap_err(), 100, "not a file"),
        (Model::open(path.with_extension("absent")).unwrap_err(), 100, "No such file"),
        (Model::open(damaged).unwrap_err(), 3, "truncated"),
        (Model::open(noise).unwrap_err(), 1, "not a Sparrow file"),
        (Model::open(empty).unwrap_err(), 1, "not a Sparrow file"),
        (Model::from_bytes(&[]).unwrap_err(), 1, "not a Sparrow file"),
        (Session::new(&model, &Options { entry: 9, ..options }).unwrap_err(), 16, "no entry point 9"),
        (Session::new(&model, &Options { threads: MAX_THREADS + 1, ..options }).unwrap_err(), 104, "257 threads"),
        (session.input_mut::<f32>(1).unwrap_err(), 101, "no input 1: the model has 1"),
        (session.output_bytes(usize::MAX).unwrap_err(), 101, "no output"),
        (session.input_mut::<i8>(0).unwrap_err(), 102, "input 0 ('image') holds f32, not i8"),
        (session.output::<u16>(0).unwrap_err(), 102, "output 0 ('logits') holds f32, not u16"),
    ];
    for (error, number, text) in cases {
        assert_eq!(error.number(), number, "{error}");
        assert!(error.to_string().contains(text), "'{error}' says nothing of '{text}'");
    }
}

#[test]
fn sessions_and_models_cross_threads() {
    fn crosses<T: Send>() {}
    fn is_shared<T: Sync>() {}
    crosses::<Session>();
    crosses::<Model>();
    is_shared::<Model>();
    is_shared::<sparrow::Canceller>();
}
