//! What the cloud says of the instance that this host is: identity, image, place. Asked by GET, after the session token
//! that AWS wants first. Credentials are never asked for, and nothing is sent where the machine does not say that it
//! is in a cloud.
//!
//! Sources: AWS "Use the Instance Metadata Service", Google "View and query VM metadata", Azure "Instance Metadata
//! Service".

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::host_files::HostFiles;
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// The address is the same in all three, and is reached from the instance alone.
const SERVICE: ([u8; 4], u16) = ([169, 254, 169, 254], 80);

/// For connecting, and for each answer as a whole.
const LIMIT: Duration = Duration::from_secs(3);

/// An answer is kept up to this.
const MOST_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloud {
    Aws,
    Google,
    Azure,
}

impl Cloud {
    /// Path and name of each document.
    fn documents(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Aws => &[
                ("/latest/dynamic/instance-identity/document", "identity-document.json"),
                ("/latest/dynamic/instance-identity/pkcs7", "identity-document.pkcs7"),
                ("/latest/meta-data/iam/info", "iam-info.json"),
                ("/latest/meta-data/instance-action", "instance-action"),
                ("/latest/meta-data/network/interfaces/macs/", "interfaces"),
            ],
            Self::Google => &[
                ("/computeMetadata/v1/instance/id", "id"),
                ("/computeMetadata/v1/instance/name", "name"),
                ("/computeMetadata/v1/instance/zone", "zone"),
                ("/computeMetadata/v1/instance/image", "image"),
                ("/computeMetadata/v1/project/project-id", "project"),
                ("/computeMetadata/v1/instance/network-interfaces/?recursive=true", "interfaces.json"),
            ],
            Self::Azure => &[
                ("/metadata/instance/compute?api-version=2021-02-01", "compute.json"),
                ("/metadata/instance/network?api-version=2021-02-01", "network.json"),
                ("/metadata/attested/document?api-version=2021-02-01", "attested.json"),
            ],
        }
    }
}

/// Asks, and stores each answer as `/V11/instance-metadata/NAME`. Gives how many there were, or none if this machine does
/// not say that it is in a cloud.
pub(crate) fn instance_metadata(host: &mut HostFiles, out: &mut TarPacker<'_>) -> Result<Option<u64>> {
    let mut said = Vec::new();
    for name in ["sys_vendor", "product_name", "board_vendor", "bios_vendor", "chassis_asset_tag"] {
        said.extend(host.read_small(&Path::new("/sys/class/dmi/id").join(name), 4096).unwrap_or_default());
    }
    match cloud(&said) {
        Some(cloud) => ask(cloud, SocketAddr::from(SERVICE), out).map(Some),
        None => Ok(None),
    }
}

/// Which cloud the machine's own names tell of.
fn cloud(said: &[u8]) -> Option<Cloud> {
    let said = String::from_utf8_lossy(said);
    if said.contains("Amazon EC2") {
        Some(Cloud::Aws)
    } else if said.contains("Google Compute Engine") {
        Some(Cloud::Google)
    } else if said.contains("7783-7084-3265-9085-8269-3286-77") {
        // The asset tag of every virtual machine of Azure.
        Some(Cloud::Azure)
    } else {
        None
    }
}

fn ask(cloud: Cloud, service: SocketAddr, out: &mut TarPacker<'_>) -> Result<u64> {
    let place = Path::new("/V11/instance-metadata");
    let headers = match cloud {
        Cloud::Google => "Metadata-Flavor: Google\r\n".to_owned(),
        Cloud::Azure => "Metadata: true\r\n".to_owned(),
        Cloud::Aws => {
            let wanted = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n";
            match request(service, "PUT", "/latest/api/token", wanted) {
                Ok((200, token)) if token.iter().all(u8::is_ascii_graphic) => {
                    format!("X-aws-ec2-metadata-token: {}\r\n", String::from_utf8_lossy(&token))
                }
                Ok((code, _)) => {
                    out.note(place, &format!("the metadata service gave no token: status {code}"));
                    return Ok(0);
                }
                Err(error) => {
                    out.note(place, &format!("the metadata service cannot be asked: {error}"));
                    return Ok(0);
                }
            }
        }
    };
    let mut taken = 0;
    for (path, name) in cloud.documents() {
        match request(service, "GET", path, &headers) {
            Ok((200, body)) => {
                out.made(&format!("/V11/instance-metadata/{name}"), &body)?;
                taken += 1;
            }
            // Not every instance has a role.
            Ok((404, _)) => {}
            Ok((code, _)) => out.note(&place.join(name), &format!("the metadata service answered {code}")),
            Err(error) => {
                out.note(&place.join(name), &format!("the metadata service cannot be asked: {error}"));
                break;
            }
        }
    }
    Ok(taken)
}

/// One request on a connection of its own, within the limit: the status and the body.
fn request(service: SocketAddr, method: &str, path: &str, headers: &str) -> io::Result<(u16, Vec<u8>)> {
    let deadline = Instant::now().checked_add(LIMIT);
    let mut stream = TcpStream::connect_timeout(&service, LIMIT)?;
    stream.set_write_timeout(Some(LIMIT))?;
    let text =
        format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n", service.ip());
    stream.write_all(text.as_bytes())?;
    let (mut answer, mut block) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.and_then(|deadline| deadline.checked_duration_since(Instant::now()));
        let left = left.filter(|left| !left.is_zero()).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut block)?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(block.get(..read).unwrap_or_default());
        if answer.len() > MOST_BYTES {
            return Err(io::Error::other("the answer is longer than 256 KiB"));
        }
    }
    let no_answer = || io::Error::other("the answer is not HTTP");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(no_answer)?;
    let (head, body) = answer.split_at_checked(end).ok_or_else(no_answer)?;
    let head = String::from_utf8_lossy(head);
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Err(io::Error::other("the answer is in chunks, which HTTP/1.0 does not have"));
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(no_answer)?;
    Ok((status, body.get(4..).unwrap_or_default().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each connection with the next text, and gives what was asked.
    fn server(answers: Vec<&'static str>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut text = Vec::new();
                while !text.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    text.push(byte[0]);
                }
                asked.push(String::from_utf8(text).unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (address, thread)
    }

    #[test]
    fn only_a_machine_that_says_so_is_in_a_cloud() {
        assert_eq!(cloud(b"Amazon EC2\nm5.large\n"), Some(Cloud::Aws));
        assert_eq!(cloud(b"Google Compute Engine"), Some(Cloud::Google));
        assert_eq!(cloud(b"Microsoft Corporation\n7783-7084-3265-9085-8269-3286-77\n"), Some(Cloud::Azure));
        assert_eq!(cloud(b"Microsoft Corporation\nVirtual Machine\n"), None);
        assert_eq!(cloud(b""), None);
    }

    #[test]
    fn a_request_gives_status_and_body_and_no_document_holds_credentials() {
        let (address, thread) = server(vec![
            "HTTP/1.0 200 OK\r\nServer: x\r\n\r\n{\"a\":1}",
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "junk",
        ]);
        assert_eq!(request(address, "GET", "/a", "X: y\r\n").unwrap(), (200, b"{\"a\":1}".to_vec()));
        assert_eq!(request(address, "GET", "/b", "").unwrap().0, 404);
        assert!(request(address, "GET", "/c", "").is_err());
        assert!(thread.join().unwrap()[0].starts_with("GET /a HTTP/1.0\r\nHost: 127.0.0.1\r\nX: y\r\n"));
        for cloud in [Cloud::Aws, Cloud::Google, Cloud::Azure] {
            assert!(
                cloud
                    .documents()
                    .iter()
                    .all(|(path, _)| !path.contains("security-credentials") && !path.contains("token"))
            );
        }
    }

    #[test]
    fn a_service_that_never_stops_or_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let start = Instant::now();
        assert!(request(address, "GET", "/", "").is_err());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
