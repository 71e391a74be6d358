//! Tables and statements: that the SQL made of them can be run, and that all callers can connect.

use std::collections::BTreeSet;

use super::super::postgres::{CONNECTION_COUNT_MAX, CONNECTION_COUNT_RESERVED};
use super::super::spec::{AppSpec, Generator, ServiceSpec, Step, TableSpec};
use super::{Problems, advice_for, any_step};

/// Bound of one text value.
const TEXT_BYTES_MAX: u32 = 100_000;
/// Bound of one table, so that seeding stays a matter of seconds.
const ROW_COUNT_MAX: u32 = 5_000_000;
/// Bound of an identifier in PostgreSQL.
const IDENTIFIER_BYTES_MAX: usize = 63;

pub(super) fn check_postgres(problems: &mut Problems, spec: &AppSpec, name: &str, service: &ServiceSpec) {
    let at = format!("services.{name}");
    if service.replicas > 1 {
        let message = format!("{} databases that know nothing of each other", service.replicas);
        problems.push(
            format!("{at}.replicas"),
            message,
            "write 1; replication is not supported",
        );
    }
    for (table_name, table) in &service.tables {
        let at = format!("{at}.tables.{table_name}");
        check_identifier(problems, &at, table_name);
        check_table(problems, &at, table, service);
    }
    for (statement, sql) in &service.statements {
        if sql.trim().is_empty() {
            problems.push(
                format!("{at}.statements.{statement}"),
                "an empty statement",
                "write SQL",
            );
        }
    }
    check_connections(problems, spec, name);
}

fn check_table(problems: &mut Problems, at: &str, table: &TableSpec, service: &ServiceSpec) {
    if table.rows == 0 || table.rows > ROW_COUNT_MAX {
        problems.push(
            format!("{at}.rows"),
            format!("{} rows", table.rows),
            format!("write 1 to {ROW_COUNT_MAX}"),
        );
    }
    let mut names = BTreeSet::from(["id"]);
    for (index, column) in table.columns.iter().enumerate() {
        let at = format!("{at}.columns[{index}]");
        check_identifier(problems, &format!("{at}.name"), &column.name);
        if !names.insert(&column.name) {
            problems.push(
                format!("{at}.name"),
                format!("a second column `{}`", column.name),
                "choose another name",
            );
        }
        match &column.generate {
            Generator::Uniform { min, max } => {
                if min > max || max.checked_sub(*min).is_none_or(|span| span == i64::MAX) {
                    problems.push(
                        format!("{at}.generate.uniform"),
                        format!("{min} to {max}"),
                        "write min below max",
                    );
                }
            }
            Generator::Text { bytes } => {
                if *bytes == 0 || *bytes > TEXT_BYTES_MAX {
                    let advice = format!("write 1 to {TEXT_BYTES_MAX}");
                    problems.push(format!("{at}.generate.text.bytes"), format!("{bytes} bytes"), advice);
                }
            }
            Generator::Reference { table } => {
                if !service.tables.contains_key(table) {
                    let advice = advice_for(table, service.tables.keys().map(String::as_str));
                    problems.push(
                        format!("{at}.generate.reference.table"),
                        format!("no table `{table}`"),
                        advice,
                    );
                }
            }
        }
    }
}

fn check_identifier(problems: &mut Problems, at: &str, name: &str) {
    let is_identifier = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= IDENTIFIER_BYTES_MAX;
    if !is_identifier {
        problems.push(
            at,
            format!("`{name}` cannot be a name in SQL"),
            "use a-z, 0-9 and _, begin with a letter",
        );
    }
}

/// Pools that together exceed the server's connections would fail under load for a reason that nobody declared.
fn check_connections(problems: &mut Problems, spec: &AppSpec, database: &str) {
    let queries = |step: &Step| matches!(step, Step::Query(query) if query.database == database);
    let wanted: u32 = spec
        .services
        .values()
        .filter(|caller| {
            caller
                .endpoints
                .iter()
                .any(|endpoint| any_step(&endpoint.steps, &queries))
        })
        .map(|caller| u32::from(caller.replicas) * u32::from(caller.pool_or_default().size))
        .sum();
    let available = CONNECTION_COUNT_MAX - CONNECTION_COUNT_RESERVED;
    if wanted > available {
        let message = format!("the pools of its callers may open {wanted} connections, and {available} are available");
        problems.push(
            format!("services.{database}"),
            message,
            "lower `pool.size` or the replicas of its callers",
        );
    }
}
