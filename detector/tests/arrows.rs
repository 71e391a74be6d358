//! Who may know of whom: the detector has no way to the harness, and so none to the truth.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{CargoOpt, MetadataCommand, PackageId};

#[test]
fn the_detector_cannot_reach_the_harness() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        // What other platforms need was perhaps never fetched.
        .other_options(["--offline", "--filter-platform", &platform].map(ToOwned::to_owned))
        .exec()
        .expect("the workspace's metadata can be read");
    let names: BTreeMap<&PackageId, &str> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.as_str()))
        .collect();
    let resolve = metadata.resolve.as_ref().expect("dependencies are resolved");
    let dependencies: BTreeMap<&PackageId, &[PackageId]> = resolve
        .nodes
        .iter()
        .map(|node| (&node.id, node.dependencies.as_slice()))
        .collect();
    let detector = names
        .iter()
        .find(|(_, name)| **name == "gauntlet-detector")
        .expect("the detector is a member")
        .0;
    let mut reached = BTreeSet::new();
    let mut queue = VecDeque::from([*detector]);
    while let Some(package) = queue.pop_front() {
        if reached.insert(package) {
            queue.extend(dependencies[package]);
        }
    }
    let ours: BTreeSet<&str> = reached
        .iter()
        .map(|package| names[*package])
        .filter(|name| name.starts_with("gauntlet"))
        .collect();
    assert_eq!(
        ours,
        BTreeSet::from(["gauntlet-abi", "gauntlet-detector", "gauntlet-probes"])
    );
}
