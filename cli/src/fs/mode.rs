//! Modes as users write them: octal, or symbolic as `u+rwx,g-w,o=r,a+X,+t`. HDFS: `FsPermission`, `ChmodParser`.

/// What a mode text makes of a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It is this. Without a digit for the sticky bit that bit stays.
    Octal { bits: u16, with_sticky: bool },
    /// One change after the other.
    Symbolic(Vec<Change>),
}

/// One clause of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Bits of whom: 0o700, 0o070, 0o007, or a sum.
    whom: u16,
    operator: char,
    /// Read, write, execute of one class, 0 to 7.
    bits: u16,
    /// `X`: execute for directories, and where anybody may execute.
    is_conditional: bool,
    /// `t`.
    is_sticky: bool,
}

impl Mode {
    /// Reads a mode; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_octal = (3..=4).contains(&text.len()) && text.chars().all(|digit| digit.is_digit(8));
        if is_octal {
            let bits = u16::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o1777)?;
            return Some(Self::Octal { bits, with_sticky: text.len() == 4 });
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            changes.extend(parse_clause(clause)?);
        }
        Some(Self::Symbolic(changes))
    }

    /// The mode of something that has `mode` now.
    pub fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        match self {
            Self::Octal { bits, with_sticky: true } => *bits,
            Self::Octal { bits, with_sticky: false } => *bits | mode & 0o1000,
            Self::Symbolic(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, is_directory))
            }
        }
    }
}

impl Change {
    fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        let can_execute = is_directory || mode & 0o111 != 0;
        let bits = self.bits | u16::from(self.is_conditional && can_execute);
        let spread = (bits * 0o111) & self.whom;
        let sticky = if self.is_sticky { 0o1000 } else { 0 };
        match self.operator {
            '+' => mode | spread | sticky,
            '-' => mode & !(spread | sticky),
            _ => mode & !self.whom | spread | sticky,
        }
    }
}

fn parse_clause(clause: &str) -> Option<Vec<Change>> {
    let operators = clause.find(['+', '-', '='])?;
    let (whom, mut rest) = clause.split_at(operators);
    let mut bits = 0;
    for letter in whom.chars() {
        bits |= match letter {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    let whom = if bits == 0 { 0o777 } else { bits };
    let mut changes = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let mut change = Change { whom, operator, bits: 0, is_conditional: false, is_sticky: false };
        for letter in rest[1..end].chars() {
            match letter {
                'r' => change.bits |= 4,
                'w' => change.bits |= 2,
                'x' => change.bits |= 1,
                'X' => change.is_conditional = true,
                't' => change.is_sticky = true,
                _ => return None,
            }
        }
        changes.push(change);
        rest = &rest[end..];
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_changed_as_chmod_does() {
        for (text, before, is_directory, after) in [
            ("755", 0o600, false, 0o755),
            ("755", 0o1600, true, 0o1755),
            ("0755", 0o1600, true, 0o755),
            ("1777", 0o755, true, 0o1777),
            ("u+x", 0o644, false, 0o744),
            ("g-w,o=r", 0o666, false, 0o644),
            ("a=rX", 0o700, false, 0o555),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o644, true, 0o755),
            ("+t", 0o777, true, 0o1777),
            ("-t", 0o1777, true, 0o777),
            ("ug+w-x", 0o755, false, 0o665),
            ("+w", 0o444, false, 0o666),
            ("o=", 0o777, false, 0o770),
        ] {
            let mode = Mode::parse(text).expect(text);
            assert_eq!(mode.apply(before, is_directory), after, "{text} on {before:o}");
        }
        for text in ["", "rwx", "u*x", "q+x", "789", "77", "77777", "u+q"] {
            assert_eq!(Mode::parse(text), None, "{text}");
        }
    }
}
