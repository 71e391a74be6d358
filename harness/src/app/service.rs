//! The http services: one program that does what an app declares for one of its services.
//!
//! Behaves like production code (pools, time-outs, bounded concurrency) and knows of no faults: those come from outside.

mod connect;
pub mod failure;
mod gate;
mod pool;
pub mod resolver;
pub mod route;
mod steps;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::gate::Gate;
use self::resolver::Resolver;
use self::route::Pattern;
use self::steps::{Actions, Builder};
use super::file::App;
use super::spec::{AppSpec, ServiceKind};

/// Where a pod says that it is alive; answered whatever its callees do.
pub const HEALTH_PATH: &str = "/healthz";

/// Arguments of `gauntlet-app http`.
#[derive(Clone, Debug, clap::Args)]
pub struct HttpArgs {
    /// The service of the app that this process is.
    #[arg(long)]
    pub service: String,
    /// The app: a JSON file with its name and spec.
    #[arg(long, value_name = "FILE")]
    pub app: PathBuf,
    /// The name server.
    #[arg(long, value_name = "IP:PORT")]
    pub dns: SocketAddr,
    /// Names are looked for in this domain, for example `shop.svc.cluster.local`; by default they are whole.
    #[arg(long, value_name = "DOMAIN")]
    pub search: Option<String>,
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
}

/// Why a service cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The app has no such http service.
    #[error("the app has no http service `{service}`")]
    NotHttp {
        /// The name asked for.
        service: String,
    },
}

/// Serves until SIGTERM; makes a runtime of its own.
///
/// # Errors
/// When the app cannot be read, or the address cannot be listened on.
pub fn run(args: &HttpArgs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.app).with_context(|| format!("failed to read {}", args.app.display()))?;
    let app: App = serde_json::from_str(&text).with_context(|| format!("{} is not an app", args.app.display()))?;
    // One thread, as much as a pod should use: on a small machine more threads only add switches between them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = HttpService::new(&app.spec, &args.service, Resolver::dns(args.dns, args.search.clone()))?;
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("failed to listen on {}", args.listen))?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            served = service.serve(listener) => served.context("failed to serve"),
            // At once: a pod that is told to go does not finish its work.
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// One http service of an app, in one pod.
pub struct HttpService {
    endpoints: Vec<Endpoint>,
    gate: Gate,
}

struct Endpoint {
    pattern: Pattern,
    actions: Actions,
    response_bytes: usize,
}

impl HttpService {
    /// Makes the service, without connections yet. Must be called on a tokio runtime; the spec was validated.
    ///
    /// # Errors
    /// When the app has no such http service.
    pub fn new(spec: &AppSpec, service: &str, resolver: Resolver) -> Result<Self, ServiceError> {
        let declared = spec
            .services
            .get(service)
            .filter(|declared| declared.kind == ServiceKind::Http)
            .ok_or_else(|| ServiceError::NotHttp {
                service: service.to_owned(),
            })?;
        let mut builder = Builder::new(spec, Arc::new(resolver), declared.pool_or_default());
        let endpoints = declared
            .endpoints
            .iter()
            .filter_map(|endpoint| {
                let pattern = Pattern::parse(&endpoint.path).ok()?;
                let actions = builder.actions(&endpoint.steps);
                Some(Endpoint {
                    pattern,
                    actions,
                    response_bytes: endpoint.response_bytes.unwrap_or(0) as usize,
                })
            })
            .collect();
        Ok(Self {
            endpoints,
            gate: Gate::new(declared.concurrency_or_default()),
        })
    }

    /// Serves connections until cancelled.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = Router::new().fallback(handle).with_state(Arc::new(self));
        // Answers are small, and a delayed one would look like a slow service. A failure here shows at the first read.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await
    }
}

impl Endpoint {
    /// The endpoint with the parameters' values, when `path` is one of its paths.
    fn matching(&self, path: &str) -> Option<(&Self, Vec<(String, String)>)> {
        self.pattern.matches(path).map(|values| (self, values))
    }
}

async fn handle(State(service): State<Arc<HttpService>>, uri: Uri) -> Response {
    if uri.path() == HEALTH_PATH {
        return "ok\n".into_response();
    }
    let matching = |endpoint| Endpoint::matching(endpoint, uri.path());
    let Some((endpoint, parameters)) = service.endpoints.iter().find_map(matching) else {
        return (StatusCode::NOT_FOUND, "no such endpoint\n").into_response();
    };
    let Ok(_place) = service.gate.enter().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n").into_response();
    };
    match endpoint.actions.execute(parameters.into()).await {
        Ok(mut body) => {
            if body.len() < endpoint.response_bytes {
                body.resize(endpoint.response_bytes, b' ');
            }
            body.into_response()
        }
        Err(error) => (error.failure.status(), format!("{error}\n")).into_response(),
    }
}
