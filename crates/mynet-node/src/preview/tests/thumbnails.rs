//! Previews of images: what they look like, what they leave out, and what hostile files cost.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::hostile::Random;
use crate::preview::{ImageInfo, PreviewError, PreviewLimits, make_thumbnail};

const FORMATS: [ImageFormat; 4] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif];

fn thumbnail(original: &[u8]) -> Result<(ImageInfo, RgbImage), PreviewError> {
    let mut jpeg = Vec::new();
    let info = make_thumbnail(&mut Cursor::new(original), &mut jpeg, &PreviewLimits::default())?;
    assert_eq!(info.size_bytes, jpeg.len() as u64);
    assert!(jpeg.len() * 3 < original.len(), "{} of {}", jpeg.len(), original.len());
    let decoded = image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg).unwrap().to_rgb8();
    assert_eq!(decoded.dimensions(), (info.width, info.height));
    Ok((info, decoded))
}

/// Red above, green below on the left, blue below on the right, with grain so that it does not shrink to nothing.
fn painting(width: u32, height: u32) -> RgbImage {
    let mut random = Random(7);
    RgbImage::from_fn(width, height, |x, y| {
        let grain = random.below(40) as u8;
        match (x * 2 < width, y * 2 < height) {
            (_, true) => Rgb([200 + grain, grain, grain]),
            (true, false) => Rgb([grain, 200 + grain, grain]),
            (false, false) => Rgb([grain, grain, 200 + grain]),
        }
    })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// A large JPEG.
pub(super) fn photograph() -> Vec<u8> {
    encoded(&painting(900, 600).into(), ImageFormat::Jpeg)
}

/// Which of red, green and blue a place of an image is, told in hundredths of width and height.
fn colour(image: &RgbImage, (x, y): (u32, u32)) -> char {
    let Rgb(values) = *image.get_pixel(image.width() * x / 100, image.height() * y / 100);
    let strongest = (0..3).max_by_key(|channel| values[*channel]).unwrap();
    assert!(values[strongest] > 150 && values.iter().filter(|value| **value > 110).count() == 1, "{values:?}");
    ['r', 'g', 'b'][strongest]
}

fn corners(image: &RgbImage) -> String {
    [(20, 20), (80, 20), (20, 80), (80, 80)].map(|place| colour(image, place)).iter().collect()
}

#[test]
fn every_format_keeps_its_picture_at_a_third() {
    let painting = DynamicImage::from(painting(900, 600));
    for format in FORMATS {
        let (info, small) =
            thumbnail(&encoded(&painting, format)).unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert_eq!((info.width, info.height), (300, 200), "{format:?}");
        assert_eq!(corners(&small), "rrgb", "{format:?}");
    }
}

#[test]
fn a_large_one_has_the_pixels_of_the_limit_and_the_same_bytes_every_time() {
    let large = encoded(&painting(2_400, 3_600).into(), ImageFormat::Jpeg);
    let mut jpegs = [100, 512, 512].map(|pixels| {
        let mut jpeg = Vec::new();
        let info = make_thumbnail(&mut Cursor::new(&large), &mut jpeg, &PreviewLimits::new(30, pixels)).unwrap();
        assert_eq!((info.height, info.width), (pixels, pixels * 2 / 3));
        jpeg
    });
    assert_eq!(jpegs[1], jpegs[2]);
    jpegs.sort_by_key(Vec::len);
    assert!(jpegs[0].len() < jpegs[1].len());
}

/// A JPEG with a segment that says how it is to be turned, and where it was taken.
fn turned(orientation: u8) -> Vec<u8> {
    let mut jpeg = encoded(&painting(900, 600).into(), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    exif.extend([0x01, 0x0e, 0, 2, 0, 0, 0, 4]);
    exif.extend(b"Home");
    exif.extend([0; 4]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    jpeg.splice(2..2, [0xff, 0xe1].into_iter().chain(length).chain(exif));
    jpeg
}

#[test]
fn a_photograph_stands_upright_and_says_nothing_about_its_place() {
    for (orientation, size, seen) in [(1, (300, 200), "rrgb"), (3, (300, 200), "bgrr"), (6, (200, 300), "grbr")] {
        let original = turned(orientation);
        assert!(original.windows(4).any(|part| part == b"Home"));
        let mut jpeg = Vec::new();
        make_thumbnail(&mut Cursor::new(&original), &mut jpeg, &PreviewLimits::default()).unwrap();
        assert!(!jpeg.windows(4).any(|part| part == b"Home" || part == b"Exif"));
        let (info, small) = thumbnail(&original).unwrap();
        assert_eq!(((info.width, info.height), corners(&small).as_str()), (size, seen), "{orientation}");
    }
}

#[test]
fn what_is_transparent_becomes_white() {
    let mut random = Random(3);
    let image = RgbaImage::from_fn(300, 300, |x, _| {
        let grain = random.below(30) as u8;
        Rgba([grain, grain, grain, if x < 150 { 0 } else { 255 }])
    });
    let (_, small) = thumbnail(&encoded(&image.into(), ImageFormat::Png)).unwrap();
    let at = |x| small.get_pixel(x, 50).0[0];
    assert!(at(20) > 240 && at(80) < 40, "{} {}", at(20), at(80));
}

#[test]
fn what_is_too_small_has_none() {
    for side in [1, 16, 47] {
        let tiny = encoded(&painting(side, side).into(), ImageFormat::Png);
        assert!(matches!(thumbnail(&tiny), Err(PreviewError::TooSmall)), "{side}");
    }
    // Many pixels, and nearly no bytes: a third of them holds no preview.
    let empty = encoded(&RgbImage::new(3_000, 3_000).into(), ImageFormat::Gif);
    match thumbnail(&empty) {
        Ok((info, _)) => assert!(info.size_bytes * 3 < empty.len() as u64),
        Err(error) => assert!(matches!(error, PreviewError::TooSmall), "{error:?}"),
    }
}

#[test]
fn other_formats_and_claims_of_size_are_refused_before_anything_is_decoded() {
    let png = encoded(&painting(60, 60).into(), ImageFormat::Png);
    let mut bomb = png.clone();
    bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let check = crc32(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&check);
    let too_wide = {
        let mut wide = png.clone();
        wide[16..20].copy_from_slice(&1_000_000_u32.to_be_bytes());
        let check = crc32(&wide[12..29]).to_be_bytes();
        wide[29..33].copy_from_slice(&check);
        wide
    };
    for original in [bomb.as_slice(), &too_wide, b"BM......................", b"II\x2a\0........", b"", b"<svg/>"] {
        let result = thumbnail(original);
        assert!(matches!(result, Err(PreviewError::Unsupported { .. })), "{result:?}");
    }
    for cut in [9, 30, 40, png.len() - 20] {
        assert!(matches!(thumbnail(&png[..cut]), Err(PreviewError::Corrupt { .. })), "{cut}");
    }
}

/// The checksum of PNG. Source: ISO 3309.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn mutated_and_cut_off_images_give_a_preview_or_a_reason() {
    let mut random = Random(0x5eed);
    let painting = DynamicImage::from(painting(120, 90));
    for format in FORMATS {
        let original = encoded(&painting, format);
        for round in 0..60 {
            let mut mutated = original.clone();
            let within = if round % 2 == 0 { 64 } else { mutated.len() };
            for _ in 0..=round / 4 {
                let at = random.below(within);
                mutated[at] = random.below(256) as u8;
            }
            if round % 5 == 4 {
                mutated.truncate(random.below(mutated.len()));
            }
            match thumbnail(&mutated) {
                Ok(_)
                | Err(PreviewError::Unsupported { .. } | PreviewError::Corrupt { .. } | PreviewError::TooSmall) => {}
                Err(error) => panic!("{format:?} {round}: {error:?}"),
            }
        }
    }
}
