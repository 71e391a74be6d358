//! Names and labels of what Gauntlet makes on a cluster, and of what it expects there.
//!
//! Words only.

/// Who owns the fields that are applied.
pub const FIELD_MANAGER: &str = "gauntlet";
/// Label: the service of the application.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label: the application.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// Label: who made the object, and may remove it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "gauntlet";
/// Label: the execution of a suite in pods to which the object belongs, and which removes it.
pub const EXECUTION_LABEL: &str = "gauntlet-execution";
/// Label that Kubernetes puts on each pod of a StatefulSet: the pod's name.
pub const REPLICA_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The ConfigMap with the application's declaration.
pub const APP_CONFIG: &str = "gauntlet-app";
/// Where ConfigMaps are mounted.
pub const CONFIG_DIRECTORY: &str = "/etc/gauntlet";
/// The declaration's file there.
pub const APP_FILE: &str = "app.json";
/// The database's schema and data there.
pub const SEED_FILE: &str = "seed.sql";
/// Where a database keeps its data.
pub const DATA_DIRECTORY: &str = "/var/lib/gauntlet";
/// Namespace of the cluster's own pods.
pub const SYSTEM_NAMESPACE: &str = "kube-system";
/// The Service of the cluster's name server, whatever serves it.
pub const DNS_OBJECT: &str = "kube-dns";
/// Label by which the cluster's own pods say what they are.
pub const SYSTEM_NAME_LABEL: &str = "k8s-app";
/// The domain of the cluster's Services: kind's and kubeadm's default.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The ConfigMap with a database's schema and data.
#[must_use]
pub fn seed_config(service: &str) -> String {
    format!("{service}-seed")
}

/// The domain in which the Services of `namespace` have their short names.
#[must_use]
pub fn search_domain(namespace: &str) -> String {
    format!("{namespace}.svc.{CLUSTER_DOMAIN}")
}
