//! TLS at the door: the client's certificate names the sender.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::door::falco;
use crate::door_support::TestDoor;
use crate::http_client::Client;
use crate::sns_sender::authority;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn new_authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn connect(
    door: &TestDoor,
    server: &Authority,
    client: Option<&(String, String)>,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(server.as_ref().der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    let name = ServerName::try_from("exhibit.example").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    Client::over(StreamOwned::new(tls, TcpStream::connect(door.address()).unwrap()))
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn a_client_certificate_lets_in_by_its_name_or_fingerprint_only() {
    let (servers, clients, others) =
        (new_authority("Servers"), new_authority("Clients"), new_authority("Others"));
    let folder = tempfile::tempdir().unwrap();
    let server = issue(&servers, "exhibit.example", ExtendedKeyUsagePurpose::ServerAuth);
    write(folder.path(), "server.pem", &server.0);
    write(folder.path(), "server.key", &server.1);
    write(folder.path(), "clients.pem", &clients.as_ref().pem());
    let client = |authority, name| issue(authority, name, ExtendedKeyUsagePurpose::ClientAuth);
    let (falco1, nameless) = (client(&clients, "falco1.example"), client(&clients, "another.example"));
    let der = CertificateDer::from_pem_slice(nameless.0.as_bytes()).unwrap();
    let print = custody::sha256(&der).to_string();
    let sources = format!(
        "[[source]]\nname = 'falco'\nkind = 'falco'\n[[source.authenticate]]\nscheme = 'client_certificate'\n\
         names = ['falco1.example']\nfingerprints = ['{print}']\n"
    );
    let tls = "tls = { certificate = 'server.pem', key = 'server.key', client_ca = 'clients.pem' }";
    let door = TestDoor::open_in(folder, &sources, tls, None);

    let answer = connect(&door, &servers, Some(&falco1)).post("/alerts/falco", &[], &falco("Shell")).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer =
        connect(&door, &servers, Some(&nameless)).post("/alerts/falco", &[], &falco("Shell")).unwrap();
    assert_eq!(answer.status, 202);
    let stored = door.state.next_undecided(10).unwrap();
    assert!(
        stored[0].sender.starts_with("client certificate of falco1.example, sha256:"),
        "{}",
        stored[0].sender
    );
    assert_eq!(stored[1].sender, format!("client certificate sha256:{}", print.get(..16).unwrap()));

    // No certificate, and one of another name: the answer that everybody has.
    assert_eq!(
        connect(&door, &servers, None).post("/alerts/falco", &[], &falco("Shell")).unwrap().status,
        401
    );
    let falco2 = client(&clients, "falco2.example");
    assert_eq!(
        connect(&door, &servers, Some(&falco2)).post("/alerts/falco", &[], &falco("Shell")).unwrap().status,
        401
    );
    // Of another authority, or for another purpose: TLS itself ends it.
    for forged in [
        client(&others, "falco1.example"),
        issue(&clients, "falco1.example", ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        assert!(connect(&door, &servers, Some(&forged)).post("/alerts/falco", &[], &falco("Shell")).is_err());
    }
    // Plain HTTP gets nothing.
    assert!(Client::connect(door.address()).unwrap().post("/alerts/falco", &[], &falco("Shell")).is_err());
    assert_eq!(door.state.next_undecided(10).unwrap().len(), 2);
}
