//! The objects of an execution: its order, which owns all others, and the account by which its pods write results.
//!
//! Pure: makes manifests, sends nothing. Jobs are in [`super::jobs`], results in [`super::record`].

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::ExecutorError;
use super::order::ShardOrder;
use crate::target::kind::names::{MANAGED_BY, MANAGED_BY_LABEL};

pub use crate::target::kind::names::EXECUTION_LABEL;

/// Only results have it: the index of their shard, from 1.
pub const RECORD_LABEL: &str = "gauntlet-record";
/// Only orders have it.
pub const ORDER_LABEL: &str = "gauntlet-order";
/// Key of the order in its object.
const ORDER: &str = "order.json.zst";

/// An execution, as its objects name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Name of its order, and the beginning of all other names.
    pub name: String,
    /// The order's uid: what it owns goes with it.
    pub uid: String,
}

impl Execution {
    /// Of an order that the API server has.
    ///
    /// # Errors
    /// [`ExecutorError::Unreadable`] when it has no uid, and so is not there.
    pub fn of(order: &ConfigMap) -> Result<Self, ExecutorError> {
        let metadata = &order.metadata;
        match (&metadata.name, &metadata.uid) {
            (Some(name), Some(uid)) => Ok(Self {
                name: name.clone(),
                uid: uid.clone(),
            }),
            (name, _) => Err(ExecutorError::Unreadable {
                object: format!("config map {}", name.as_deref().unwrap_or_default()),
                why: "the API server gave it no uid".to_owned(),
            }),
        }
    }

    /// Metadata of an object that goes with the order.
    #[must_use]
    pub fn owned(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels(&self.name)),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                // The owner may go first; whoever makes an object needs no right over its owner.
                block_owner_deletion: None,
                controller: None,
            }]),
            ..ObjectMeta::default()
        }
    }

    /// The account of the pods.
    #[must_use]
    pub fn account(&self) -> ServiceAccount {
        ServiceAccount {
            metadata: self.owned(&self.name),
            ..ServiceAccount::default()
        }
    }

    /// What pods may do: read the order, read and add results. They can change none.
    #[must_use]
    pub fn role(&self) -> Role {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Role {
            metadata: self.owned(&self.name),
            rules: Some(vec![PolicyRule {
                api_groups: Some(words(&[""])),
                resources: Some(words(&["configmaps"])),
                verbs: words(&["get", "list", "create"]),
                ..PolicyRule::default()
            }]),
        }
    }

    /// That the account may do it.
    #[must_use]
    pub fn binding(&self, namespace: &str) -> RoleBinding {
        RoleBinding {
            metadata: self.owned(&self.name),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "Role".to_owned(),
                name: self.name.clone(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: self.name.clone(),
                namespace: Some(namespace.to_owned()),
                api_group: None,
            }]),
        }
    }
}

/// Labels of all objects of an execution.
#[must_use]
pub fn labels(execution: &str) -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([label(MANAGED_BY_LABEL, MANAGED_BY), label(EXECUTION_LABEL, execution)])
}

/// A namespace that an execution makes for itself.
#[must_use]
pub fn namespace(name: &str, execution: &str) -> Namespace {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels(execution)),
        ..ObjectMeta::default()
    };
    Namespace {
        metadata,
        ..Namespace::default()
    }
}

/// The object of an order.
#[must_use]
pub fn order_object(execution: &str, order: &ShardOrder) -> ConfigMap {
    let mut labels = labels(execution);
    labels.insert(ORDER_LABEL.to_owned(), "true".to_owned());
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(execution.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        binary_data: Some(BTreeMap::from([(ORDER.to_owned(), ByteString(order.pack()))])),
        ..ConfigMap::default()
    }
}

/// The order in its object.
///
/// # Errors
/// [`ExecutorError::Unreadable`].
pub fn read_order(object: &ConfigMap) -> Result<ShardOrder, ExecutorError> {
    let unreadable = |why: String| ExecutorError::Unreadable {
        object: format!("config map {}", object.metadata.name.as_deref().unwrap_or_default()),
        why,
    };
    let packed = object.binary_data.as_ref().and_then(|data| data.get(ORDER));
    let packed = packed.ok_or_else(|| unreadable(format!("it has no {ORDER}")))?;
    ShardOrder::unpack(&packed.0).map_err(|error| unreadable(crate::doctor::error_chain(&error)))
}
