//! The namespace in which everything of a run lives: made and labelled by Gauntlet, and no other is ever used.
//!
//! Does not know what is put into it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

use super::api::{ApiError, call};

/// The label by which Gauntlet's objects are known.
pub const LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "gauntlet";
/// Longest that a namespace may take to go: its pods have short grace periods, and a busy machine is slow to end them.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// There is no namespace to work in, or it does not go.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// It is somebody else's.
    #[error(
        "namespace {namespace} exists and does not have the label {LABEL}={MANAGER}; nothing was touched. Choose another with \
         --namespace"
    )]
    OfOthers {
        /// The namespace.
        namespace: String,
    },
    /// It was deleted, and is still there.
    #[error("namespace {namespace} did not go within {} s; `kubectl describe namespace {namespace}` says what holds it",
        GONE_WITHIN.as_secs())]
    Stays {
        /// The namespace.
        namespace: String,
    },
    /// It cannot be watched.
    #[error("failed to watch namespace {namespace}")]
    Watch {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<kube::runtime::wait::Error>,
    },
    /// The API said no.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// What is there under the name of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    OursGoing,
    OfOthers,
}

/// Says whether `name` may become, or is, a namespace of ours. Changes nothing.
///
/// # Errors
/// [`NamespaceError::OfOthers`], or the API's.
pub async fn check(client: &Client, name: &str) -> Result<(), NamespaceError> {
    look(client, name).await?.usable(name)
}

/// Makes the namespace, unless it is there and ours. One of ours that is on its way out is awaited first.
///
/// # Errors
/// [`NamespaceError`].
pub async fn ensure(client: &Client, name: &str) -> Result<(), NamespaceError> {
    let found = look(client, name).await?;
    found.usable(name)?;
    if found == Found::Ours {
        return Ok(());
    }
    if found == Found::OursGoing {
        await_gone(client, name).await?;
    }
    let wanted = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Created, not applied: applying would put our label on a namespace that somebody else made in the meantime.
    let made = call(
        format!("make namespace {name}"),
        namespaces.create(&PostParams::default(), &wanted),
    )
    .await;
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => look(client, name).await?.usable(name),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the namespace and all that is in it, and returns when it is gone. One that is not there is gone.
///
/// # Errors
/// [`NamespaceError::OfOthers`] when it is not ours (it is left alone), and the others.
pub async fn remove(client: &Client, name: &str) -> Result<(), NamespaceError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = call(format!("read namespace {name}"), namespaces.get_opt(name)).await?;
    Found::of(found.as_ref()).usable(name)?;
    let Some(found) = found else { return Ok(()) };
    // That very one: if it was made anew in the meantime, it may be somebody else's.
    let exactly = DeleteParams::default().preconditions(Preconditions {
        uid: found.metadata.uid,
        resource_version: None,
    });
    match call(format!("delete namespace {name}"), namespaces.delete(name, &exactly)).await {
        Ok(_) => await_gone(client, name).await,
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn look(client: &Client, name: &str) -> Result<Found, ApiError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = call(format!("read namespace {name}"), namespaces.get_opt(name)).await?;
    Ok(Found::of(found.as_ref()))
}

async fn await_gone(client: &Client, name: &str) -> Result<(), NamespaceError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let gone = await_condition(namespaces, name, |found: Option<&Namespace>| found.is_none());
    match tokio::time::timeout(GONE_WITHIN, gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(NamespaceError::Watch {
            namespace: name.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(NamespaceError::Stays {
            namespace: name.to_owned(),
        }),
    }
}

impl Found {
    fn of(namespace: Option<&Namespace>) -> Self {
        let Some(Namespace { metadata, .. }) = namespace else {
            return Self::Nothing;
        };
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(LABEL));
        match label.map(String::as_str) {
            Some(MANAGER) if metadata.deletion_timestamp.is_some() => Self::OursGoing,
            Some(MANAGER) => Self::Ours,
            Some(_) | None => Self::OfOthers,
        }
    }

    fn usable(self, name: &str) -> Result<(), NamespaceError> {
        match self {
            Self::Nothing | Self::Ours | Self::OursGoing => Ok(()),
            Self::OfOthers => Err(NamespaceError::OfOthers {
                namespace: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_namespace_is_ours_by_its_label_alone() {
        let with = |labels: &[(&str, &str)]| Namespace {
            metadata: ObjectMeta {
                labels: Some(
                    labels
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                ),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        assert_eq!(Found::of(None), Found::Nothing);
        assert_eq!(Found::of(Some(&Namespace::default())), Found::OfOthers);
        for (labels, expected) in [
            (&[][..], Found::OfOthers),
            (&[("app.kubernetes.io/managed-by", "helm")], Found::OfOthers),
            (&[("kubernetes.io/metadata.name", "gauntlet")], Found::OfOthers),
            (&[("app.kubernetes.io/managed-by", "gauntlet")], Found::Ours),
        ] {
            assert_eq!(Found::of(Some(&with(labels))), expected, "{labels:?}");
        }
        let mut going = with(&[("app.kubernetes.io/managed-by", "gauntlet")]);
        going.metadata.deletion_timestamp = Some(Time(k8s_openapi::chrono::DateTime::UNIX_EPOCH));
        assert_eq!(Found::of(Some(&going)), Found::OursGoing);
        let refusal = Found::OfOthers.usable("shop").unwrap_err().to_string();
        assert!(refusal.starts_with("namespace shop exists"), "{refusal}");
    }
}
