//! Whom `wss` connections trust.

#[cfg(feature = "tls")]
pub(crate) use rustls_backed::TlsStream;
#[cfg(feature = "tls")]
pub use rustls_backed::{RootCertificateError, TlsConfig};

/// Whom `wss` connections trust: nobody, because the feature `tls` is off.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsConfig {}

#[cfg(feature = "tls")]
mod rustls_backed {
    use core::error::Error;
    use core::fmt;
    use std::io;
    use std::sync::Arc;

    use crate::connector::Pipe;
    use futures_rustls::TlsConnector;
    use futures_rustls::pki_types::pem::PemObject;
    use futures_rustls::pki_types::{CertificateDer, ServerName};
    use futures_rustls::rustls::{
        self, CertificateError, ClientConfig, RootCertStore, crypto::ring,
    };

    pub(crate) type TlsStream = futures_rustls::client::TlsStream<Pipe>;

    /// Whom `wss` connections trust: Mozilla's roots, and any you add.
    ///
    /// Cloning shares the certificates.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use realtime_smol::TlsConfig;
    ///
    /// let root = std::fs::read("company-root.pem")?;
    /// let tls = TlsConfig::default().with_root_pem(&root)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Clone)]
    pub struct TlsConfig {
        roots: RootCertStore,
        client: Arc<ClientConfig>,
    }

    impl TlsConfig {
        /// Trusts the root certificates in `pem` as well, for instance a company's own authority.
        ///
        /// # Errors
        ///
        /// [`RootCertificateError`] when `pem` holds no certificate or one that cannot be read.
        pub fn with_root_pem(mut self, pem: &[u8]) -> Result<Self, RootCertificateError> {
            let mut found = 0;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| RootCertificateError::unreadable(error.into()))?;
                self.roots
                    .add(certificate)
                    .map_err(|error| RootCertificateError::unreadable(error.into()))?;
                found += 1;
            }
            if found == 0 {
                return Err(RootCertificateError(Problem::None));
            }
            Ok(Self::trusting(self.roots))
        }

        /// Trusts one more root certificate, given as DER.
        ///
        /// # Errors
        ///
        /// [`RootCertificateError`] when it cannot be read.
        pub fn with_root_der(mut self, der: &[u8]) -> Result<Self, RootCertificateError> {
            self.roots
                .add(CertificateDer::from(der.to_vec()))
                .map_err(|error| RootCertificateError::unreadable(error.into()))?;
            Ok(Self::trusting(self.roots))
        }

        fn trusting(roots: RootCertStore) -> Self {
            let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the ring provider supports the default protocol versions")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            Self { roots, client: Arc::new(client) }
        }

        /// Speaks TLS on `stream`, or says in one sentence why not.
        pub(crate) async fn handshake(&self, host: &str, pipe: Pipe) -> Result<TlsStream, String> {
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| format!("TLS: {host} is not a name a certificate can be for"))?;
            TlsConnector::from(Arc::clone(&self.client))
                .connect(name, pipe)
                .await
                .map_err(|error| explain(host, &error))
        }
    }

    impl Default for TlsConfig {
        fn default() -> Self {
            Self::trusting(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        }
    }

    impl fmt::Debug for TlsConfig {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("TlsConfig").field("roots", &self.roots.len()).finish_non_exhaustive()
        }
    }

    fn explain(host: &str, error: &io::Error) -> String {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => format!(
                "TLS: the certificate of {host} is not trusted: its issuer is unknown; add its \
                 root certificate with TlsConfig::with_root_pem",
            ),
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => format!(
                "TLS: the certificate of {host} has expired, or the clock of this machine is wrong",
            ),
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => format!(
                "TLS: the certificate that {host} sent is for another name; check the host in the \
                 URL",
            ),
            Some(rustls::Error::InvalidCertificate(other)) => {
                format!("TLS: the certificate of {host} is not accepted: {other:?}")
            }
            Some(rustls::Error::InvalidMessage(_)) => format!(
                "TLS: {host} did not answer with TLS; use ws:// if the server has none, and check \
                 the port",
            ),
            _ => format!("TLS: the handshake with {host} failed: {error}"),
        }
    }

    /// A root certificate could not be used.
    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    pub struct RootCertificateError(Problem);

    #[derive(Debug, thiserror::Error)]
    enum Problem {
        #[error("the PEM text holds no certificate; it needs a BEGIN CERTIFICATE section")]
        None,
        #[error("a root certificate cannot be read; check that it is X.509")]
        Unreadable(#[source] Box<dyn Error + Send + Sync>),
    }

    impl RootCertificateError {
        fn unreadable(source: Box<dyn Error + Send + Sync>) -> Self {
            Self(Problem::Unreadable(source))
        }
    }
}
