//! Makes the preview of an image: decode, turn upright, shrink, flatten, JPEG.
//!
//! What an image says about itself (place, camera, an embedded thumbnail) is left behind with the pixels it is not made of. Of
//! an animation the first frame counts.
//!
//! Bounds: the decoder may ask for [`DECODED_BYTES_MAX`], told by the header before anything is decoded; a side of the preview
//! is at most a third of the original's, so that nobody can print what is sold as a print.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, Limits,
    RgbImage, codecs::jpeg::JpegEncoder,
};

use super::{ImageInfo, PreviewError, PreviewLimits};

/// Memory for the decoded image and what decoding takes: half of the address space of the child. 100 megapixels in 24 bits are
/// 300 MB; doubled, the rest of the process has no room; halved, cameras of today are refused.
const DECODED_BYTES_MAX: u64 = 512 << 20;

/// Largest side that is looked at, in pixels. Formats end at 65,535 or at four billion; longer ones are made to do harm.
const SIDE_MAX: u32 = 65_535;

/// The share of sides and bytes that a preview stays within: one third of each.
const SHARE: u32 = 3;

/// Shortest longer side worth having, in pixels: less is a stain.
pub(super) const SIDE_MIN: u32 = 16;

/// JPEG qualities, tried in this order until the preview is small enough. Below the last blocks show more than the image does.
const QUALITIES: [u8; 3] = [80, 60, 40];

/// Makes the preview of the image in `input` and writes it to `out`.
///
/// `input` is read from its own start whatever its position. `out` is not flushed to disk.
///
/// # Errors
/// [`PreviewError::Unsupported`] for other formats and images too large to decode, [`PreviewError::TooSmall`],
/// [`PreviewError::Corrupt`], [`PreviewError::Read`] before anything is written; [`PreviewError::Write`].
pub fn make_thumbnail<R, W>(input: &mut R, out: &mut W, limits: &PreviewLimits) -> Result<ImageInfo, PreviewError>
where
    R: Read + Seek,
    W: Write,
{
    let bytes = input.seek(SeekFrom::End(0)).map_err(PreviewError::Read)?;
    let upright = decode(input)?;
    let longer = upright.width().max(upright.height());
    let mut side = (longer / SHARE).min(limits.image_pixels());
    let budget = usize::try_from(bytes.saturating_sub(1) / u64::from(SHARE)).unwrap_or(usize::MAX);
    while side >= SIDE_MIN {
        // Rounded down, so that the shorter side keeps its third too.
        let shrunk = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longer)).max(1) as u32;
        let small = flatten(&upright.thumbnail_exact(shrunk(upright.width()), shrunk(upright.height())));
        for quality in QUALITIES {
            let jpeg = encode(&small, quality)?;
            if jpeg.len() <= budget {
                out.write_all(&jpeg).and_then(|()| out.flush()).map_err(PreviewError::Write)?;
                let (width, height) = small.dimensions();
                return Ok(ImageInfo { size_bytes: jpeg.len() as u64, width, height });
            }
        }
        side = side / 4 * 3;
    }
    Err(PreviewError::TooSmall)
}

/// The image as it is meant to be looked at.
fn decode<R: Read + Seek>(input: &mut R) -> Result<DynamicImage, PreviewError> {
    input.seek(SeekFrom::Start(0)).map_err(PreviewError::Read)?;
    let mut reader = ImageReader::new(BufReader::new(input)).with_guessed_format().map_err(PreviewError::Read)?;
    if reader.format().is_none_or(|format| !is_known(format)) {
        return Err(PreviewError::unsupported("an unknown image format"));
    }
    let mut limits = Limits::no_limits();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_MAX), Some(SIDE_MAX));
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(of_decoder)?;
    // Before the pixels are made: this much is asked for at once.
    if decoder.total_bytes() > DECODED_BYTES_MAX {
        let (width, height) = decoder.dimensions();
        return Err(PreviewError::unsupported(format!("an image of {width} x {height} pixels")));
    }
    // A turn that cannot be read is none.
    let turned = decoder.orientation().ok();
    let mut image = super::source::guard_panic(|| DynamicImage::from_decoder(decoder))?.map_err(of_decoder)?;
    if let Some(turned) = turned {
        image.apply_orientation(turned);
    }
    Ok(image)
}

fn is_known(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif)
}

/// What a decoder says, in our words.
fn of_decoder(error: ImageError) -> PreviewError {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PreviewError::corrupt("it ends in the middle")
        }
        ImageError::IoError(error) if error.get_ref().is_none() => PreviewError::Read(error),
        ImageError::Unsupported(what) => PreviewError::unsupported(what.to_string()),
        ImageError::Limits(_) => PreviewError::unsupported("an image that takes too much memory"),
        other => PreviewError::corrupt(other.to_string()),
    }
}

/// Without transparency: what shines through is white.
fn flatten(image: &DynamicImage) -> RgbImage {
    let mut opaque = RgbImage::new(image.width(), image.height());
    for (to, from) in opaque.pixels_mut().zip(image.to_rgba8().pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        to.0 = [red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    opaque
}

fn encode(image: &RgbImage, quality: u8) -> Result<Vec<u8>, PreviewError> {
    let mut jpeg = Vec::new();
    let (width, height) = image.dimensions();
    JpegEncoder::new_with_quality(&mut jpeg, quality)
        .write_image(image, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| PreviewError::Encode { what: error.to_string().into() })?;
    Ok(jpeg)
}
