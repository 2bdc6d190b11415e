//! How a lost blob comes back to its row. Who is asked is seen with real nodes only.

use mynet_store::meta::LostBlob;

use super::{is_staging, put_back, refill, stage_name};
use crate::{
    care,
    config::Config,
    testing::{Home, move_pair},
};

#[tokio::test]
async fn a_blob_that_came_again_replaces_the_lost_file_in_its_row() {
    let home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let (lost, path) = (home.place(&sample.encrypted).await, sample.encrypted.path());
    home.prepared(&sample.prepare, vec![lost, home.place(&sample.preview).await]).await;
    let file = home.files().into_iter().find(|path| path.metadata().unwrap().len() > 200_000).unwrap();
    let outboard = format!("{}.obao", file.display());
    let (bytes, tree) = (std::fs::read(&file).unwrap(), std::fs::read(&outboard).unwrap());
    let staging = home.shell.blobs.stage(stage_name(&lost.blob.sha256)).await.unwrap();
    assert!(!is_staging(&home.shell, staging.name()).await.unwrap(), "nothing is lost yet");
    let error = mynet_store::blobs::ReadError::Corrupt {
        blob: mynet_store::blobs::BlobKey { sha256: lost.blob.sha256, generation: lost.generation },
        offset: 0,
    };
    home.shell.damaged(&lost, &error).await;
    assert!(is_staging(&home.shell, staging.name()).await.unwrap());
    // What a pull that was cut off left is not swept away by a start.
    std::fs::write(path, bytes).unwrap();
    std::fs::write(format!("{}.obao", path.display()), tree).unwrap();
    move_pair(path, &staging.path().join("blob"));
    care::clear_staging(&home.shell, std::iter::empty()).await.unwrap();
    put_back(&home.shell, &staging, (lost.blob, &[], &[])).await.unwrap();
    let row = home.shell.meta.blob(&lost.blob.sha256).await.unwrap().unwrap();
    assert!(!row.quarantined && row.stored.generation != lost.generation);
    home.shell.blobs.read(row.stored.blob, row.stored.generation).await.unwrap().verify().await.unwrap();
    assert_eq!(home.files().len(), 4, "the damaged file is gone from quarantine: {:?}", home.files());
    care::clear_staging(&home.shell, std::iter::empty()).await.unwrap();
    assert!(!staging.path().exists());
}

#[tokio::test]
async fn files_that_come_back_by_themselves_are_believed_when_they_verify() {
    let home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let files = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
    home.prepared(&sample.prepare, files.clone()).await;
    // As at a start while the disk is not mounted.
    assert_eq!(home.shell.meta.quarantine_all().await.unwrap(), 2);
    let (whole, cut) = (files[0], files[1]);
    let path = home.files().into_iter().find(|path| {
        path.display().to_string().contains(&hex::encode(cut.blob.sha256.0))
            && path.extension() != Some("obao".as_ref())
    });
    let path = path.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for (stored, back) in [(whole, true), (cut, false)] {
        let mended = refill(&home.shell, &LostBlob { stored, groups: Vec::new() }).await;
        assert_eq!(mended.is_ok(), back, "{mended:?}");
        let row = home.shell.meta.blob(&stored.blob.sha256).await.unwrap().unwrap();
        assert_eq!((row.quarantined, row.stored), (!back, stored));
    }
}
