//! Pictures as network inputs.

use crate::fail::{Failure, Outcome, at, fail};
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use std::path::{Path, PathBuf};

/// How a picture becomes an input tensor: `(pixel / 255 - mean) / std`, by channel.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A JPEG or PNG file as the first input.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Mean of each channel, of pixels scaled to 0..1; one number or one per channel.
    #[arg(long, value_delimiter = ',', default_value = "0", requires = "image")]
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, as the mean.
    #[arg(long, value_delimiter = ',', default_value = "1", requires = "image")]
    pub std: Vec<f32>,
    /// How a picture of other proportions is fitted.
    #[arg(long, value_enum, default_value = "crop", requires = "image")]
    pub fit: Fit,
}

/// How a picture of other proportions than the input's is fitted.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// Scale until it covers the input, cut what hangs over.
    Crop,
    /// Scale both sides, whatever the proportions.
    Stretch,
}

/// Where an input tensor keeps channels, height and width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame {
    channels: usize,
    height: usize,
    width: usize,
    channels_last: bool,
}

fn frame(dims: &[usize]) -> Outcome<Frame> {
    match *dims {
        [1, channels @ (1 | 3), height, width] => Ok(Frame { channels, height, width, channels_last: false }),
        [1, height, width, channels @ (1 | 3)] => Ok(Frame { channels, height, width, channels_last: true }),
        _ => fail(format!(
            "an input of shape {} takes no picture; it needs 1x3xHxW, 1x1xHxW, 1xHxWx3 or 1xHxWx1",
            crate::table::shape(dims)
        )),
    }
}

/// The picture as the elements of an input with these dimensions.
pub fn load(args: &Args, path: &Path, dims: &[usize]) -> Outcome<Vec<f32>> {
    let frame = frame(dims)?;
    let picture = image::ImageReader::open(path)
        .map_err(at(path))?
        .with_guessed_format()
        .map_err(at(path))?
        .decode()
        .map_err(at(path))?;
    let (width, height) = (frame.width as u32, frame.height as u32);
    let fitted = match args.fit {
        Fit::Crop => picture.resize_to_fill(width, height, FilterType::Triangle),
        Fit::Stretch => picture.resize_exact(width, height, FilterType::Triangle),
    };
    let per = |values: &[f32], what: &str| -> Outcome<Vec<f32>> {
        match values {
            [one] => Ok(vec![*one; frame.channels]),
            all if all.len() == frame.channels => Ok(all.to_vec()),
            _ => fail(format!("--{what} has {} numbers, the input has {} channels", values.len(), frame.channels)),
        }
    };
    let (mean, std) = (per(&args.mean, "mean")?, per(&args.std, "std")?);
    if std.contains(&0.0) {
        return Err(Failure("--std must not be 0".into()));
    }
    Ok(elements(&fitted, frame, &mean, &std))
}

fn elements(picture: &DynamicImage, frame: Frame, mean: &[f32], std: &[f32]) -> Vec<f32> {
    let pixels: Vec<u8> =
        if frame.channels == 1 { picture.to_luma8().into_raw() } else { RgbImage::from(picture.clone()).into_raw() };
    let value = |at: usize, channel: usize| {
        (f32::from(pixels[at * frame.channels + channel]) / 255.0 - mean[channel]) / std[channel]
    };
    let area = frame.height * frame.width;
    if frame.channels_last {
        (0..area * frame.channels).map(|i| value(i / frame.channels, i % frame.channels)).collect()
    } else {
        (0..area * frame.channels).map(|i| value(i % area, i / area)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_go_where_the_input_has_them() {
        let picture = DynamicImage::ImageRgb8(RgbImage::from_raw(2, 1, vec![255, 0, 51, 0, 255, 102]).unwrap());
        let first = elements(&picture, frame(&[1, 3, 1, 2]).unwrap(), &[0.0; 3], &[1.0; 3]);
        assert_eq!(first, [1.0, 0.0, 0.0, 1.0, 0.2, 0.4]);
        let last =
            elements(&picture, Frame { channels: 3, height: 1, width: 2, channels_last: true }, &[0.5; 3], &[0.5; 3]);
        assert_eq!(last[..2], [1.0, -1.0]);
        assert!(frame(&[1, 8, 8, 3]).unwrap().channels_last);
        assert!(frame(&[1, 2, 8, 8]).is_err());
    }
}
