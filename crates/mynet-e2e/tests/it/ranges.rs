//! Ranges as others serve them: the same requests to a node and to nginx, on the same file.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use mynet_e2e::{
    content::{self, bytes, hash},
    http::client,
    network::Network,
    wait::until,
};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};

/// An nginx that serves one directory until it is dropped.
struct Nginx {
    child: Child,
    url: String,
}

impl Nginx {
    fn start(root: &Path) -> Result<Self> {
        // Free now, and most likely still when nginx binds it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let dir = root.display();
        // Without `max_ranges` it would answer several ranges as multipart, which a node answers with the whole: not compared.
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n\
             uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 127.0.0.1:{port}; root {dir}/www; }} }}\n"
        );
        let path = root.join("nginx.conf");
        fs::write(&path, config).context("write nginx.conf")?;
        let mut command = Command::new("nginx");
        // Where Debian puts it, which is not on every user's path.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let child = command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.context("start nginx: install the package nginx-light, as scripts/test does")?;
        let server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let serves = || TcpStream::connect(("127.0.0.1", port)).map(drop).context("connect");
        until("nginx to serve", Duration::from_secs(30), serves).with_context(|| {
            fs::read_to_string(root.join("nginx.log")).unwrap_or_else(|_none| "nginx wrote no log".to_owned())
        })?;
        Ok(server)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The size of the file: several chunks of the cipher, and not a multiple of any.
const SIZE: usize = 200_003;

/// Single ranges at every edge: of the file, of chunks, of numbers.
const RANGES: [&str; 45] = [
    "bytes=0-0",
    "bytes=0-1",
    "bytes=0-1023",
    "bytes=1-1",
    "bytes=1-1024",
    "bytes=16383-16384",
    "bytes=16384-32767",
    "bytes=65535-65535",
    "bytes=65535-65536",
    "bytes=65536-131071",
    "bytes=65537-65537",
    "bytes=131071-131073",
    "bytes=199999-200002",
    "bytes=200001-200002",
    "bytes=200002-200002",
    "bytes=0-200001",
    "bytes=0-200002",
    "bytes=0-200003",
    "bytes=0-999999",
    "bytes=100-9223372036854775806",
    "bytes=200002-200003",
    "bytes=200002-999999999999",
    "bytes=0-",
    "bytes=1-",
    "bytes=65536-",
    "bytes=200001-",
    "bytes=200002-",
    "bytes=200003-",
    "bytes=200004-",
    "bytes=999999999999-",
    "bytes=200003-200003",
    "bytes=200003-300000",
    "bytes=300000-400000",
    "bytes=-1",
    "bytes=-2",
    "bytes=-65536",
    "bytes=-65537",
    "bytes=-200002",
    "bytes=-200003",
    "bytes=-200004",
    "bytes=-999999999",
    "bytes=000-0001",
    "bytes=00065536-00065540",
    "bytes= 5-9",
    "bytes=-0",
];

#[test]
fn single_ranges_are_answered_as_nginx_answers_them() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let data = bytes(60, SIZE);
    let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
    // Once as bytes on disk, once as a view through the cipher.
    node.json(&["add", &path, "--public", "--no-publish"]).unwrap();
    let sealed = bytes(61, SIZE);
    let path = content::file(network.temp.path(), "sealed.bin", &sealed).unwrap();
    node.json(&["add", &path, "--no-publish"]).unwrap();
    let token = node.json(&["token", "create", "--name", "t", "--scope", "read"]).unwrap();
    let token = token["token"].as_str().unwrap();

    let judge = tempfile::tempdir().unwrap();
    let www = judge.path().join("www");
    fs::create_dir(&www).unwrap();
    fs::write(www.join("data"), &data).unwrap();
    fs::write(www.join("sealed"), &sealed).unwrap();
    let nginx = Nginx::start(judge.path()).unwrap();

    let http = client();
    let ask = |url: String, range: &str| {
        let answer = http.get(url).bearer_auth(token).header(RANGE, range).send().unwrap();
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, range, length) = (answer.status().as_u16(), header(CONTENT_RANGE), header(CONTENT_LENGTH));
        // A refusal has a body of its own kind.
        let body = if status == 416 { None } else { Some((length, answer.bytes().unwrap())) };
        (status, range, body)
    };
    let mut parts = 0;
    for (name, bytes) in [("data", &data), ("sealed", &sealed)] {
        for range in RANGES {
            let want = ask(format!("{}/{name}", nginx.url), range);
            let got = ask(format!("{}/api/v1/storage/{}", node.api, hash(bytes)), range);
            assert!(got == want, "{name} {range}: {:?} instead of {:?}", (got.0, got.1), (want.0, want.1));
            parts += usize::from(want.0 == 206);
        }
    }
    assert!(parts > 60, "nginx answered only {parts} parts");
}
