//! Channels of a WAV file.

use super::{Fault, MAX_SAMPLES, choose};
use hound::{SampleFormat, WavReader};
use std::io::Cursor;

const REMEDY: &str = "save it again as WAV of 8 to 32 bits with a sound program";

/// Whether the content says that it is a WAV file.
pub(super) fn is_wav(bytes: &[u8]) -> bool {
    bytes.len() >= 12 && bytes.starts_with(b"RIFF") && &bytes[8..12] == b"WAVE"
}

fn reader(bytes: &[u8]) -> Result<WavReader<Cursor<&[u8]>>, Fault> {
    let reader = WavReader::new(Cursor::new(bytes)).map_err(|e| Fault::new(format!("damaged sound: {e}"), REMEDY))?;
    match reader.spec().channels {
        0 => Err(Fault::new("the sound has no channels", REMEDY)),
        _ => Ok(reader),
    }
}

fn named(channels: u16) -> Vec<String> {
    match channels {
        1 => vec!["mono".into()],
        2 => vec!["left".into(), "right".into()],
        n => (1..=n).map(|i| format!("channel {i}")).collect(),
    }
}

/// Names of its channels.
pub(super) fn names(bytes: &[u8]) -> Result<Vec<String>, Fault> {
    Ok(named(reader(bytes)?.spec().channels))
}

/// Name, rate and samples of a channel; the first without a name.
pub(super) fn channel(bytes: &[u8], wanted: Option<&str>) -> Result<(String, f64, Vec<f32>), Fault> {
    let reader = reader(bytes)?;
    let spec = reader.spec();
    let names = named(spec.channels);
    let at = wanted.map_or(Ok(0), |w| choose(&names, w))?;
    let step = usize::from(spec.channels);
    let n = reader.len() as usize / step;
    if n > MAX_SAMPLES {
        return Err(Fault::new(format!("{n} samples are more than {MAX_SAMPLES}"), "cut the sound"));
    }
    let damaged = |e: hound::Error| Fault::new(format!("damaged sound: {e}"), REMEDY);
    let samples = match spec.sample_format {
        SampleFormat::Float => {
            let own = reader.into_samples::<f32>().skip(at).step_by(step);
            own.collect::<Result<Vec<f32>, _>>().map_err(damaged)?
        }
        SampleFormat::Int => {
            let full = (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f64;
            let own = reader.into_samples::<i32>().skip(at).step_by(step);
            own.map(|s| s.map(|v| (f64::from(v) / full) as f32)).collect::<Result<Vec<f32>, _>>().map_err(damaged)?
        }
    };
    Ok((names[at].clone(), f64::from(spec.sample_rate), samples))
}
