//! Applications in one line: `web*2 -> cache:redis*3, db:postgres; web -> auth`.

use gauntlet_probes::entity::{Peer, PodName};
use gauntlet_probes::frame::Protocol;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Redis,
    Postgres,
}

impl Kind {
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 8080,
            Self::Redis => 6379,
            Self::Postgres => 5432,
        }
    }

    pub fn protocol(self) -> Protocol {
        match self {
            Self::Http => Protocol::Http1,
            Self::Redis => Protocol::Redis,
            Self::Postgres => Protocol::Postgres,
        }
    }

    pub fn cost_ms(self) -> f64 {
        match self {
            Self::Http => 0.4,
            Self::Redis => 0.05,
            Self::Postgres => 3.0,
        }
    }

    pub fn timeout_ms(self) -> f64 {
        match self {
            Self::Redis => 100.0,
            Self::Http | Self::Postgres => 2000.0,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub kind: Kind,
    pub calls: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub service: usize,
    pub node: usize,
}

#[derive(Clone, Debug, Default)]
pub struct App {
    pub services: Vec<Service>,
    pub pods: Vec<Pod>,
    pub entrance: usize,
    pub node_count: usize,
}

impl App {
    pub fn parse(text: &str) -> Self {
        let mut app = Self {
            node_count: 3,
            ..Self::default()
        };
        for line in text.split(';') {
            let mut ends = line.split("->");
            let caller = app.service(ends.next().unwrap().trim());
            for callee in ends.flat_map(|callees| callees.split(',')) {
                let callee = app.service(callee.trim());
                app.services[caller].calls.push(callee);
            }
        }
        app
    }

    /// A tree-like cluster of http services in layers, with databases at the leaves.
    pub fn synthetic(service_count: usize) -> Self {
        let mut app = Self {
            node_count: 10,
            ..Self::default()
        };
        for index in 0..service_count {
            let leaf = index * 3 + 1 >= service_count;
            app.service(&format!("s{index}{}*2", if leaf { ":postgres" } else { "" }));
        }
        for index in 0..service_count {
            let callees = (3 * index + 1..=3 * index + 3).filter(|&callee| callee < service_count);
            app.services[index].calls = callees.collect();
        }
        app
    }

    fn service(&mut self, text: &str) -> usize {
        let (text, replicas) = text
            .split_once('*')
            .map_or((text, 1), |(name, count)| (name, count.parse().unwrap()));
        let (name, kind) = match text.split_once(':') {
            Some((name, "redis")) => (name, Kind::Redis),
            Some((name, "postgres")) => (name, Kind::Postgres),
            Some((_, kind)) => panic!("unknown kind {kind}"),
            None => (text, Kind::Http),
        };
        if let Some(known) = self.services.iter().position(|service| service.name == name) {
            return known;
        }
        let service = self.services.len();
        self.services.push(Service {
            name: name.to_owned(),
            kind,
            calls: Vec::new(),
        });
        for replica in 0..replicas {
            let node = self.pods.len() % self.node_count;
            self.pods.push(Pod {
                name: format!("{name}-{replica}"),
                service,
                node,
            });
        }
        service
    }

    pub fn pods_of(&self, service: usize) -> impl Iterator<Item = usize> {
        (0..self.pods.len()).filter(move |&pod| self.pods[pod].service == service)
    }

    pub fn pods_named(&self, names: &str) -> Vec<usize> {
        let wanted: Vec<&str> = names.split('+').collect();
        let of = |name: &str| self.pods.iter().position(|pod| pod.name == name);
        let all = |name: &str| {
            let service = self.services.iter().position(|service| service.name == name);
            let on_node = |pod: &usize| name == format!("node-{}", self.pods[*pod].node);
            service.map_or_else(
                || (0..self.pods.len()).filter(on_node).collect(),
                |service| self.pods_of(service).collect::<Vec<_>>(),
            )
        };
        wanted
            .into_iter()
            .flat_map(|name| of(name).map_or_else(|| all(name), |pod| vec![pod]))
            .collect()
    }

    pub fn peer(&self, pod: usize) -> Peer {
        Peer::Pod(PodName::new(self.pods[pod].name.clone()))
    }
}
