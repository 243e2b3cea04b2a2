//! Names of x86-64 system calls, as the kernel's `asm/unistd_64.h` numbers them.

const TABLE: &str = include_str!("syscalls_x86_64.txt");

/// The name of system call `number`, or its number when the table does not know it.
#[must_use]
pub fn name(number: i64) -> String {
    TABLE
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(known, _)| known.parse() == Ok(number))
        .map_or_else(|| format!("system call {number}"), |(_, name)| name.to_owned())
}

/// The number of the system call called `name`.
#[must_use]
pub fn number(name: &str) -> Option<i64> {
    TABLE
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, known)| *known == name)
        .and_then(|(number, _)| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_answers_both_ways() {
        assert_eq!(name(202), "futex");
        assert_eq!(number("fsync"), Some(74));
        assert_eq!(name(99_999), "system call 99999");
    }
}
