//! Patterns of names: `*` stands for any text, everything else for itself.

/// Whether `name` is one that `pattern` means.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        // The first place is the best one: it leaves most for what follows.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_nothing_else_is() {
        let names = ["cache-flush", "cache-hang", "db-cpu-limit", "web-cpu-limit", "cache"];
        let chosen = |pattern| -> Vec<&str> { names.into_iter().filter(|name| matches(pattern, name)).collect() };
        assert_eq!(chosen("cache"), ["cache"]);
        assert_eq!(chosen("cache-*"), ["cache-flush", "cache-hang"]);
        assert_eq!(chosen("*-cpu-*"), ["db-cpu-limit", "web-cpu-limit"]);
        assert_eq!(chosen("*limit"), ["db-cpu-limit", "web-cpu-limit"]);
        assert_eq!(chosen("*"), names);
        assert_eq!(chosen("c*e*h*"), ["cache-flush", "cache-hang"]);
        assert_eq!(chosen("c*ache"), ["cache"], "a star may be nothing");
        assert_eq!(chosen("cache*cache"), [""; 0], "no letter is used twice");
        assert_eq!(chosen("?ache"), [""; 0]);
        assert_eq!(chosen(""), [""; 0]);
        assert_eq!(chosen("**e*h*"), ["cache-flush", "cache-hang"]);
    }
}
