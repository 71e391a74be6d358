//! The load of a scenario, as declared, and as offered once the app has filled in what was left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::duration;
use crate::app::spec::{AppSpec, PathShare};
use crate::app::template::{LoadPath, TemplateError};

/// The load of a scenario, as declared. What is left out is the app's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadSpec {
    /// Requests per second over time; the app's constant rate by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// How arrivals follow each other.
    pub arrivals: Arrivals,
    /// What is asked for; the app's paths by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathShare>,
    /// How users behave.
    pub users: Users,
}

/// Requests per second over time, from the start of the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Profile {
    /// Always the same.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// From one rate to another in a straight line, and then constant.
    Ramp {
        /// Requests per second at the start.
        from: f64,
        /// Requests per second at the end.
        to: f64,
        /// Time between the two.
        #[serde(with = "duration")]
        over: Duration,
    },
    /// One rate after the other; the last one stays.
    Step {
        /// The rates.
        steps: Vec<RateStep>,
    },
}

/// A rate for a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateStep {
    /// Requests per second.
    pub rate: f64,
    /// For how long.
    #[serde(rename = "for", with = "duration")]
    pub duration: Duration,
}

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// As independent users arrive.
    #[default]
    Poisson,
    /// Evenly spaced.
    Fixed,
}

/// How users behave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Users {
    /// After this long they give up; the app's by default.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Requests at once; one more is not sent and counts as an error of its own.
    pub in_flight_max: u16,
    /// Connections that are kept open and used in turn, so that requests spread over the pods behind one address.
    pub connections: u16,
    /// Mean age at which a connection is replaced.
    #[serde(with = "duration")]
    pub connection_max_age: Duration,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            timeout: None,
            in_flight_max: 512,
            connections: 16,
            connection_max_age: Duration::from_secs(4),
        }
    }
}

/// Why a load cannot be offered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// A path is not understood.
    #[error(transparent)]
    Path(#[from] TemplateError),
    /// A number outside of its range.
    #[error("{field} is {value}: write {advice}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it says.
        value: f64,
        /// What it may say.
        advice: &'static str,
    },
    /// Nothing is asked for, or for no time.
    #[error("{field} is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
}

/// A load that can be offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The name of the service at which it enters.
    pub host: String,
    /// Requests per second over time.
    pub profile: Profile,
    /// How arrivals follow each other.
    pub arrivals: Arrivals,
    /// What is asked for.
    pub paths: Vec<OfferedPath>,
    /// After this long a user gives up.
    pub timeout: Duration,
    /// How users behave otherwise.
    pub users: Users,
}

/// One kind of request.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedPath {
    /// The path with its choice of keys.
    pub path: LoadPath,
    /// Weight against the others.
    pub weight: f64,
    /// Whether each key is asked for once before the run.
    pub prefill: bool,
}

impl Load {
    /// Fills in from the app what the scenario left out.
    ///
    /// # Errors
    /// When a path is not understood or a number makes no sense.
    pub fn new(spec: &LoadSpec, app: &AppSpec) -> Result<Self, LoadError> {
        let profile = spec
            .profile
            .clone()
            .unwrap_or(Profile::Constant { rate: app.load.rate });
        profile.check()?;
        let shares = if spec.paths.is_empty() {
            &app.load.paths
        } else {
            &spec.paths
        };
        if shares.is_empty() {
            return Err(LoadError::Empty { field: "paths" });
        }
        let paths = shares
            .iter()
            .map(|share| {
                check("weight", share.weight, "a number above 0", share.weight > 0.0)?;
                let path = LoadPath::parse(&share.path)?;
                Ok(OfferedPath {
                    path,
                    weight: share.weight,
                    prefill: share.prefill,
                })
            })
            .collect::<Result<_, LoadError>>()?;
        let timeout = spec.users.timeout.unwrap_or(app.load.timeout);
        let users = spec.users;
        check(
            "users.timeout",
            timeout.as_secs_f64(),
            "a duration above 0",
            !timeout.is_zero(),
        )?;
        let limits = [
            ("users.inFlightMax", users.in_flight_max),
            ("users.connections", users.connections),
        ];
        for (field, limit) in limits {
            check(field, f64::from(limit), "at least 1", limit > 0)?;
        }
        Ok(Self {
            host: app.entry.clone(),
            profile,
            arrivals: spec.arrivals,
            paths,
            timeout,
            users,
        })
    }
}

impl Profile {
    /// Requests per second `at` that time.
    #[must_use]
    pub fn rate_at(&self, at: Duration) -> f64 {
        match self {
            Self::Constant { rate } => *rate,
            Self::Ramp { from, to, over } => {
                let done = (at.as_secs_f64() / over.as_secs_f64()).min(1.0);
                from + (to - from) * done
            }
            Self::Step { steps } => {
                let mut end = Duration::ZERO;
                let current = steps.iter().find(|step| {
                    end += step.duration;
                    at < end
                });
                current.or(steps.last()).map_or(0.0, |step| step.rate)
            }
        }
    }

    fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Constant { rate } => check_rate(*rate),
            Self::Ramp { from, to, over } => {
                check(
                    "profile.ramp.over",
                    over.as_secs_f64(),
                    "a duration above 0",
                    !over.is_zero(),
                )?;
                check_rate(*from).and_then(|()| check_rate(*to))
            }
            Self::Step { steps } if steps.is_empty() => Err(LoadError::Empty {
                field: "profile.step.steps",
            }),
            Self::Step { steps } => steps.iter().try_for_each(|step| check_rate(step.rate)),
        }
    }
}

fn check_rate(rate: f64) -> Result<(), LoadError> {
    check(
        "rate",
        rate,
        "requests per second from 0 to 100000",
        (0.0..=1e5).contains(&rate),
    )
}

fn check(field: &'static str, value: f64, advice: &'static str, holds: bool) -> Result<(), LoadError> {
    if holds && value.is_finite() {
        Ok(())
    } else {
        Err(LoadError::Range { field, value, advice })
    }
}

/// An optional duration as text; absent is written by leaving the field out.
mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use crate::app::duration;

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_their_profile() {
        let ramp = Profile::Ramp {
            from: 10.0,
            to: 110.0,
            over: Duration::from_secs(10),
        };
        let rates = [0, 5, 10, 99].map(|second| ramp.rate_at(Duration::from_secs(second)));
        assert_eq!(rates, [10.0, 60.0, 110.0, 110.0]);
        let second = Duration::from_secs(1);
        let steps = vec![
            RateStep {
                rate: 1.0,
                duration: second,
            },
            RateStep {
                rate: 2.0,
                duration: second,
            },
        ];
        let step = Profile::Step { steps };
        let rates = [0, 999, 1000, 5000].map(|ms| step.rate_at(Duration::from_millis(ms)));
        assert_eq!(rates, [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn what_is_left_out_is_the_apps() {
        let app = crate::app::load("shop").expect("a shipped app").spec;
        let load = Load::new(&LoadSpec::default(), &app).expect("the app's load");
        assert_eq!(
            (load.host.as_str(), load.paths.len(), load.timeout),
            ("web", 2, Duration::from_secs(3))
        );
        assert_eq!(load.profile, Profile::Constant { rate: 120.0 });
        let negative = LoadSpec {
            profile: Some(Profile::Constant { rate: -1.0 }),
            ..LoadSpec::default()
        };
        assert!(Load::new(&negative, &app).is_err());
    }

    #[test]
    fn yaml_says_for_and_leaves_the_rest_out() {
        let text = "profile: {step: {steps: [{rate: 5, for: 10s}]}}\narrivals: fixed\nusers: {timeout: 1s}\n";
        let spec: LoadSpec = serde_yaml::from_str(text).expect("a load");
        assert_eq!(spec.users.timeout, Some(Duration::from_secs(1)));
        let json = serde_json::to_string(&spec).expect("serialisable");
        assert_eq!(serde_json::from_str::<LoadSpec>(&json).expect("the same format"), spec);
    }
}
