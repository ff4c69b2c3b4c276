//! Java objects that describe models and runs.

use crate::Failure;
use jni::JNIEnv;
use jni::objects::{JObject, JObjectArray, JValue};
use sparrow::{EntryInfo, ProfiledOp, TensorInfo};

/// An array of `class`, each element made inside a frame of its own: a long list does not exhaust local references.
fn array<'local, T>(
    env: &mut JNIEnv<'local>,
    class: &str,
    items: &[T],
    make: impl for<'frame> Fn(&mut JNIEnv<'frame>, &T) -> Result<JObject<'frame>, Failure>,
) -> Result<JObjectArray<'local>, Failure> {
    let array = env.new_object_array(items.len() as i32, class, JObject::null())?;
    for (i, item) in items.iter().enumerate() {
        env.with_local_frame(16, |env| {
            let element = make(env, item)?;
            Ok::<_, Failure>(env.set_object_array_element(&array, i as i32, element)?)
        })?;
    }
    Ok(array)
}

fn tensor<'local>(env: &mut JNIEnv<'local>, info: &TensorInfo) -> Result<JObject<'local>, Failure> {
    let name = env.new_string(&info.name)?;
    let dims = env.new_int_array(info.dims.len() as i32)?;
    let values: Vec<i32> = info.dims.iter().map(|&d| d as i32).collect();
    env.set_int_array_region(&dims, 0, &values)?;
    let size = info.dims.iter().product::<usize>() * info.dtype.size();
    let (scale, zero) = info.quantization.unwrap_or_default();
    let arguments = [
        JValue::from(&name),
        JValue::Int(info.dtype as i32),
        JValue::from(&dims),
        JValue::Int(size as i32),
        JValue::Float(scale),
        JValue::Int(zero),
    ];
    Ok(env.new_object("dev/sparrow/Tensor", "(Ljava/lang/String;I[IIFI)V", &arguments)?)
}

/// `dev.sparrow.Entry[]`.
pub fn entries<'local>(env: &mut JNIEnv<'local>, entries: &[EntryInfo]) -> Result<JObjectArray<'local>, Failure> {
    array(env, "dev/sparrow/Entry", entries, |env, entry| {
        let name = env.new_string(&entry.name)?;
        let inputs = array(env, "dev/sparrow/Tensor", &entry.inputs, tensor)?;
        let outputs = array(env, "dev/sparrow/Tensor", &entry.outputs, tensor)?;
        let arguments =
            [JValue::from(&name), JValue::from(&inputs), JValue::from(&outputs), JValue::Long(entry.arena_size as i64)];
        let signature = "(Ljava/lang/String;[Ldev/sparrow/Tensor;[Ldev/sparrow/Tensor;J)V";
        Ok(env.new_object("dev/sparrow/Entry", signature, &arguments)?)
    })
}

/// `dev.sparrow.OpTime[]`.
pub fn times<'local>(env: &mut JNIEnv<'local>, ops: &[ProfiledOp]) -> Result<JObjectArray<'local>, Failure> {
    array(env, "dev/sparrow/OpTime", ops, |env, op| {
        let [name, what, kernel] = [&*op.name, op.op, op.kernel].map(|text| env.new_string(text));
        let (name, what, kernel) = (name?, what?, kernel?);
        let time = JValue::Long(op.time.as_nanos() as i64);
        let arguments = [JValue::from(&name), JValue::from(&what), JValue::from(&kernel), time];
        let signature = "(Ljava/lang/String;Ljava/lang/String;Ljava/lang/String;J)V";
        Ok(env.new_object("dev/sparrow/OpTime", signature, &arguments)?)
    })
}
