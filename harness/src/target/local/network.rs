//! The cluster's network: namespaces, links, addresses and routes, over netlink.
//!
//! Nodes and edge hang on one bridge; pods are routed through their node, pod networks node to node. Nothing has a name
//! outside the cluster. Virtual services are another module's.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::target::NetnsFd;
use crate::target::namespace::{NamespaceError, netns_inode, new_netns, run_in_netns};

use super::layout::{EDGE_ADDRESS, FABRIC_PREFIX, Layout, PODS_PREFIX, SERVICES_NETWORK, SERVICES_PREFIX};

/// The route metric that names a congestion control algorithm (`RTAX_CC_ALGO` of linux/rtnetlink.h).
const ROUTE_METRIC_CONGESTION_CONTROL: u16 = 16;
/// Loss shows in cubic; in bbr, some hosts' default, it hides. A namespace other than the first may not always choose its
/// default, but each route can.
const CONGESTION_CONTROL: &[u8] = b"cubic\0";

/// Every network namespace is made with a loopback interface, its first.
const LOOPBACK_INDEX: u32 = 1;

/// The cluster's network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A netlink socket.
    #[error("failed to open a netlink socket")]
    Socket(#[source] io::Error),
    /// A netlink request.
    #[error("failed to {operation} for {object}")]
    Request {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        object: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that was just made is not there.
    #[error("failed to find interface {name}")]
    MissingLink {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel parameter of a namespace.
    #[error("failed to set {parameter}")]
    Parameter {
        /// Its path.
        parameter: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The namespaces of a cluster.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// The bridge.
    pub fabric: NetnsFd,
    /// Where load enters.
    pub edge: NetnsFd,
    /// Nodes, in the layout's order.
    pub nodes: Vec<NetnsFd>,
    /// Pods, in the layout's order.
    pub pods: Vec<NetnsFd>,
}

impl Namespaces {
    /// Makes them, empty.
    pub fn new(layout: &Layout) -> Result<Self, NamespaceError> {
        let several = |count: usize| (0..count).map(|_| new_netns()).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            fabric: new_netns()?,
            edge: new_netns()?,
            nodes: several(layout.nodes.len())?,
            pods: several(layout.pods.len())?,
        })
    }

    /// Inodes of `netns`, in order.
    pub fn inodes(netns: &[NetnsFd]) -> Result<Vec<u64>, NamespaceError> {
        netns.iter().map(netns_inode).collect()
    }
}

/// Connects the namespaces as the layout says.
pub async fn connect(layout: &Layout, namespaces: &Namespaces) -> Result<(), NetworkError> {
    let fabric = Netlink::open(&namespaces.fabric, &[]).await?;
    fabric
        .request(
            "add",
            "the bridge",
            fabric.handle.link().add(LinkBridge::new("fabric").build()).execute(),
        )
        .await?;
    let bridge = fabric.index("fabric")?;
    let edge = Netlink::open(&namespaces.edge, &[]).await?;
    connect_to_fabric(&fabric, bridge, &edge, &namespaces.edge, ("edge", EDGE_ADDRESS)).await?;
    add_routes_to_pods(layout, &edge, EDGE_ADDRESS).await?;
    for (index, node) in layout.nodes.iter().enumerate() {
        let netlink = Netlink::open(&namespaces.nodes[index], &[("net/ipv4/ip_forward", "1")]).await?;
        connect_to_fabric(
            &fabric,
            bridge,
            &netlink,
            &namespaces.nodes[index],
            (node.name.as_str(), node.ip),
        )
        .await?;
        add_routes_to_pods(layout, &netlink, node.ip).await?;
        let pods = layout
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| pod.node_index == index);
        for (number, (pod_index, pod)) in pods.enumerate() {
            let pod_netlink = Netlink::open(&namespaces.pods[pod_index], &[]).await?;
            let end = NodeEnd {
                netlink: &netlink,
                netns: &namespaces.nodes[index],
                interface: format!("pod{number}"),
            };
            connect_pod(&end, node.gateway, &pod_netlink, pod.ip).await?;
        }
    }
    Ok(())
}

async fn connect_to_fabric(
    fabric: &Netlink,
    bridge: u32,
    netlink: &Netlink,
    netns: &NetnsFd,
    (name, ip): (&str, Ipv4Addr),
) -> Result<(), NetworkError> {
    fabric.add_pair(name, netns).await?;
    let port = LinkUnspec::new_with_name(name).controller(bridge).up().build();
    fabric.set_link("attach to the bridge", name, port).await?;
    let index = netlink.index("eth0")?;
    netlink.add_address(index, ip, FABRIC_PREFIX).await?;
    netlink
        .set_link("raise", "eth0", LinkUnspec::new_with_index(index).up().build())
        .await?;
    // A local caller's packets are translated after they are routed, so that virtual addresses need a route of any kind.
    let virtual_services = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(SERVICES_NETWORK, SERVICES_PREFIX)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    netlink
        .add_route("virtual services", with_congestion_control(virtual_services))
        .await
}

async fn add_routes_to_pods(layout: &Layout, netlink: &Netlink, own: Ipv4Addr) -> Result<(), NetworkError> {
    for node in layout.nodes.iter().filter(|node| node.ip != own) {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(node.pod_network, PODS_PREFIX)
            .gateway(node.ip)
            .build();
        netlink
            .add_route(&format!("pods of {}", node.name), with_congestion_control(route))
            .await?;
    }
    Ok(())
}

/// The node's end of a pod's link.
struct NodeEnd<'a> {
    netlink: &'a Netlink,
    netns: &'a NetnsFd,
    interface: String,
}

async fn connect_pod(node: &NodeEnd<'_>, gateway: Ipv4Addr, pod: &Netlink, ip: Ipv4Addr) -> Result<(), NetworkError> {
    pod.add_pair_named("eth0", &node.interface, node.netns).await?;
    let inner = pod.index("eth0")?;
    let outer = node.netlink.index(&node.interface)?;
    node.netlink.add_address(outer, gateway, 32).await?;
    node.netlink
        .set_link("raise", &node.interface, LinkUnspec::new_with_index(outer).up().build())
        .await?;
    let to_pod = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(ip, 32)
        .output_interface(outer)
        .scope(RouteScope::Link)
        .build();
    node.netlink.add_route("a pod", to_pod).await?;
    pod.add_address(inner, ip, 32).await?;
    pod.set_link("raise", "eth0", LinkUnspec::new_with_index(inner).up().build())
        .await?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(gateway, 32)
        .output_interface(inner)
        .scope(RouteScope::Link)
        .pref_source(ip)
        .build();
    pod.add_route("the gateway", to_gateway).await?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .pref_source(ip)
        .build();
    pod.add_route("everything", with_congestion_control(default)).await
}

fn with_congestion_control(mut route: RouteMessage) -> RouteMessage {
    let name = DefaultNla::new(ROUTE_METRIC_CONGESTION_CONTROL, CONGESTION_CONTROL.to_vec());
    route
        .attributes
        .push(RouteAttribute::Metrics(vec![RouteMetric::Other(name)]));
    route
}

/// A netlink socket in a namespace.
struct Netlink {
    netns: NetnsFd,
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens it, sets what every namespace of a cluster has set, and `parameters`.
    async fn open(netns: &NetnsFd, parameters: &[(&str, &str)]) -> Result<Self, NetworkError> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = run_in_netns(netns, || {
            let _context = runtime.enter();
            set_parameters(parameters)?;
            rtnetlink::new_connection().map_err(NetworkError::Socket)
        })??;
        let netlink = Self {
            netns: Arc::clone(netns),
            handle,
            connection: tokio::spawn(connection),
        };
        netlink
            .set_link("raise", "lo", LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build())
            .await?;
        Ok(netlink)
    }

    async fn request(
        &self,
        operation: &'static str,
        object: &str,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), NetworkError> {
        request.await.map_err(|source| NetworkError::Request {
            operation,
            object: object.to_owned(),
            source,
        })
    }

    /// Adds a pair: `name` here, `eth0` in `peer`.
    async fn add_pair(&self, name: &str, peer: &NetnsFd) -> Result<(), NetworkError> {
        // The far end is made under another name: this namespace may have an `eth0` of its own.
        let far = format!("{name}-far");
        self.request(
            "add a link",
            name,
            self.handle.link().add(LinkVeth::new(name, &far).build()).execute(),
        )
        .await?;
        let moved = LinkUnspec::new_with_index(self.index(&far)?)
            .name("eth0".to_owned())
            .setns_by_fd(peer.as_raw_fd())
            .build();
        self.set_link("move a link", name, moved).await
    }

    /// Adds a pair: `name` here, `peer_name` in `peer`.
    async fn add_pair_named(&self, name: &str, peer_name: &str, peer: &NetnsFd) -> Result<(), NetworkError> {
        let pair = LinkVeth::new(name, peer_name).build();
        self.request("add a link", peer_name, self.handle.link().add(pair).execute())
            .await?;
        let moved = LinkUnspec::new_with_name(peer_name)
            .setns_by_fd(peer.as_raw_fd())
            .build();
        self.set_link("move a link", peer_name, moved).await
    }

    async fn set_link(&self, operation: &'static str, name: &str, message: LinkMessage) -> Result<(), NetworkError> {
        self.request(operation, name, self.handle.link().set(message).execute())
            .await
    }

    async fn add_address(&self, index: u32, ip: Ipv4Addr, prefix: u8) -> Result<(), NetworkError> {
        let request = self.handle.address().add(index, IpAddr::V4(ip), prefix).execute();
        self.request("add an address", &ip.to_string(), request).await
    }

    async fn add_route(&self, whither: &str, route: RouteMessage) -> Result<(), NetworkError> {
        self.request("add a route", whither, self.handle.route().add(route).execute())
            .await
    }

    fn index(&self, name: &str) -> Result<u32, NetworkError> {
        run_in_netns(&self.netns, || if_nametoindex(name))?.map_err(|errno| NetworkError::MissingLink {
            name: name.to_owned(),
            source: errno.into(),
        })
    }
}

/// Sets kernel parameters of the namespace that the calling thread is in.
fn set_parameters(parameters: &[(&str, &str)]) -> Result<(), NetworkError> {
    // IPv6 has no part in the cluster; its neighbour discovery would only look like traffic.
    const COMMON: [(&str, &str); 4] = [
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ];
    for (parameter, value) in COMMON.iter().chain(parameters) {
        let path = Path::new("/proc/sys").join(parameter);
        match fs::write(&path, value) {
            Ok(()) => (),
            // A kernel without IPv6 needs no telling.
            Err(error) if error.kind() == io::ErrorKind::NotFound && parameter.starts_with("net/ipv6/") => (),
            Err(source) => {
                return Err(NetworkError::Parameter {
                    parameter: (*parameter).to_owned(),
                    source,
                });
            }
        }
    }
    Ok(())
}
