//! `-getfacl`, `-setfacl`. HDFS: `AclCommands`, `AclEntry`.

use ringfs_sdk::{Acl, AclEntry, AclKind, AclScope, FileKind};

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::outln;

pub const GETFACL: Command = Command {
    name: "getfacl",
    flags: &["R"],
    values: &[],
    operands_min: 1,
    usage: "getfacl [-R] <path>",
    help: "Print the access control list of a file or directory, and of a directory the list that new entries get.\n\
           -R  with everything below",
    run: getfacl,
};

pub const SETFACL: Command = Command {
    name: "setfacl",
    flags: &["R", "b", "k"],
    values: &["m", "x", "-set"],
    operands_min: 1,
    usage: "setfacl [-R] [{-b|-k} {-m|-x <acl_spec>} <path>]|[--set <acl_spec> <path>]",
    help: "Change the access control list of a file or directory.\n\
           -b  remove all entries but those of owner, group and others\n-k  remove the default list\n\
           -m  add entries, or change them\n-x  remove entries, named without permissions\n\
           --set  replace the list: the entries of owner, group and others must be in it\n-R  with everything below\n\
           Entries are separated by commas: [default:]user:NAME:rwx, group:NAME:r-x, mask::rwx, other::---.",
    run: setfacl,
};

fn getfacl(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each(GETFACL.name, &args.operands, |place| {
        let mut all = vec![(place.clone(), place.stat()?)];
        if args.has("R") {
            all.extend(place.below(0)?);
        }
        for (place, _) in all {
            let acl = place.client.acl(&place.path).map_err(|error| place.failure(&error))?;
            outln!("{}", render(&place.shown, &acl));
        }
        Ok(())
    })
}

/// The list as HDFS prints it, and an empty line.
fn render(path: &str, acl: &Acl) -> String {
    let Acl { owner, group, mode, entries } = acl;
    let mut text = format!("# file: {path}\n# owner: {owner}\n# group: {group}\n");
    if mode & 0o1000 != 0 {
        text += &format!("# flags: --{}\n", if mode & 1 != 0 { 't' } else { 'T' });
    }
    let (access, default): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.scope == AclScope::Access);
    let all = whole_access(acl, &access);
    let mask = (!access.is_empty()).then_some(((mode >> 3) & 7) as u8);
    let default_mask = default.iter().find(|entry| entry.kind == AclKind::Mask).map(|entry| entry.permission);
    for (entry, mask) in
        all.iter().map(|entry| (entry, mask)).chain(default.into_iter().map(|entry| (entry, default_mask)))
    {
        text += &describe(entry);
        let is_masked = match entry.kind {
            AclKind::User => entry.name.is_some(),
            AclKind::Group => true,
            AclKind::Mask | AclKind::Other => false,
        };
        if let Some(mask) = mask.filter(|mask| is_masked && entry.permission & !mask != 0) {
            text += &format!("\t#effective:{}", letters(entry.permission & mask));
        }
        text.push('\n');
    }
    text
}

/// All entries of the access ACL: those that the mode stands for, too.
fn whole_access(acl: &Acl, access: &[&AclEntry]) -> Vec<AclEntry> {
    let of_mode = |shift: u16| ((acl.mode >> shift) & 7) as u8;
    let own = |kind, permission| AclEntry { scope: AclScope::Access, kind, name: None, permission };
    let mut all = vec![own(AclKind::User, of_mode(6))];
    if access.is_empty() {
        all.push(own(AclKind::Group, of_mode(3)));
    }
    all.extend(access.iter().map(|entry| (*entry).clone()));
    if !access.is_empty() {
        all.push(own(AclKind::Mask, of_mode(3)));
    }
    all.push(own(AclKind::Other, of_mode(0)));
    all
}

/// All entries of both lists, as they may be set elsewhere.
pub fn whole(acl: &Acl) -> Vec<AclEntry> {
    let (access, default): (Vec<_>, Vec<_>) =
        acl.entries.iter().partition(|entry| entry.scope == AclScope::Access);
    let mut all = whole_access(acl, &access);
    all.extend(default.into_iter().cloned());
    all
}

fn describe(entry: &AclEntry) -> String {
    let scope = if entry.scope == AclScope::Default { "default:" } else { "" };
    let kind = match entry.kind {
        AclKind::User => "user",
        AclKind::Group => "group",
        AclKind::Mask => "mask",
        AclKind::Other => "other",
    };
    format!("{scope}{kind}:{}:{}", entry.name.as_deref().unwrap_or_default(), letters(entry.permission))
}

fn letters(permission: u8) -> String {
    let letter = |(bit, letter)| if permission & bit != 0 { letter } else { '-' };
    [(4, 'r'), (2, 'w'), (1, 'x')].into_iter().map(letter).collect()
}

/// What is to be done with the list of each path.
enum Wanted {
    RemoveAll,
    RemoveDefault,
    Modify(Vec<AclEntry>),
    Remove(Vec<AclEntry>),
    Set(Vec<AclEntry>),
}

fn setfacl(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (wanted, paths) = wanted(args).map_err(Failure::Usage)?;
    shell.for_each(SETFACL.name, &paths, |place| {
        let mut all = vec![(place.clone(), place.stat()?)];
        if args.has("R") {
            all.extend(place.below(0)?);
        }
        for (place, status) in all {
            change(&place, &wanted, status.kind == FileKind::Directory)?;
        }
        Ok(())
    })
}

fn wanted(args: &Args) -> Result<(Wanted, Vec<String>), String> {
    let paths = args.operands.clone();
    let given: Vec<&str> =
        ["m", "x", "-set"].into_iter().filter(|option| args.value(option).is_some()).collect();
    let flags = [args.has("b"), args.has("k")].into_iter().filter(|flag| *flag).count();
    if given.len() + flags != 1 {
        return Err(match given.len() + flags {
            0 => "<acl_spec> is missing".to_owned(),
            _ => "Specified flags contains both remove and modify flags".to_owned(),
        });
    }
    let wanted = match given.first().copied() {
        None if args.has("b") => Wanted::RemoveAll,
        None => Wanted::RemoveDefault,
        Some(option) => {
            let spec = args.value(option).unwrap_or_default();
            match option {
                "m" => Wanted::Modify(parse(spec, true)?),
                "x" => Wanted::Remove(parse(spec, false)?),
                _ => Wanted::Set(parse(spec, true)?),
            }
        }
    };
    Ok((wanted, paths))
}

/// HDFS: `AclCommands.SetfaclCommand`, which leaves default entries out where there is no directory.
fn change(place: &Place, wanted: &Wanted, is_directory: bool) -> Result<(), Failure> {
    let fitting = |entries: &[AclEntry]| -> Vec<AclEntry> {
        let fits = |entry: &&AclEntry| is_directory || entry.scope == AclScope::Access;
        entries.iter().filter(fits).cloned().collect()
    };
    let (client, path) = (&place.client, &place.path);
    let changed = match wanted {
        Wanted::RemoveAll => client.remove_acl(path),
        Wanted::RemoveDefault => client.remove_default_acl(path),
        Wanted::Modify(entries) => match fitting(entries) {
            entries if entries.is_empty() => Ok(()),
            entries => client.modify_acl(path, &entries),
        },
        Wanted::Remove(entries) => match fitting(entries) {
            entries if entries.is_empty() => Ok(()),
            entries => client.remove_acl_entries(path, &entries),
        },
        Wanted::Set(entries) => client.set_acl(path, &fitting(entries)),
    };
    changed.map_err(|error| place.failure(&error))
}

/// Reads `[default:]user:NAME:rwx,...`. HDFS: `AclEntry.parseAclSpec`.
fn parse(spec: &str, with_permissions: bool) -> Result<Vec<AclEntry>, String> {
    spec.split(',').map(|text| parse_entry(text, with_permissions)).collect()
}

fn parse_entry(text: &str, with_permissions: bool) -> Result<AclEntry, String> {
    let invalid = || format!("Invalid <aclSpec> : {text}");
    let mut parts: Vec<&str> = text.split(':').collect();
    let scope = if parts.first() == Some(&"default") {
        parts.remove(0);
        AclScope::Default
    } else {
        AclScope::Access
    };
    if parts.len() > 3 || parts.len() < 1 + usize::from(with_permissions) {
        return Err(invalid());
    }
    let kind = match parts[0] {
        "user" | "u" => AclKind::User,
        "group" | "g" => AclKind::Group,
        "mask" | "m" => AclKind::Mask,
        "other" | "o" => AclKind::Other,
        _ => return Err(format!("Invalid type of acl in <aclSpec> :{text}")),
    };
    let name = parts.get(1).filter(|name| !name.is_empty()).map(|name| (*name).to_owned());
    let permission = match (with_permissions, parts.get(2)) {
        (false, None) => 0,
        (false, Some(&"")) => 0,
        (false, Some(_)) | (true, None) => return Err(invalid()),
        (true, Some(permission)) => {
            parse_permission(permission).ok_or_else(|| format!("Invalid permission in <aclSpec> : {text}"))?
        }
    };
    Ok(AclEntry { scope, kind, name, permission })
}

fn parse_permission(text: &str) -> Option<u8> {
    let mut permission = 0;
    if text.chars().count() != 3 {
        return None;
    }
    for (letter, (expected, bit)) in text.chars().zip([('r', 4), ('w', 2), ('x', 1)]) {
        match letter {
            '-' => {}
            letter if letter == expected => permission |= bit,
            _ => return None,
        }
    }
    Some(permission)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_as_hadoop_reads_them() {
        let entries = parse("user::rwx,user:bob:r-x,default:group:staff:---,mask::r--,o::--x", true);
        let entries = entries.expect("parsed");
        let texts: Vec<String> = entries.iter().map(describe).collect();
        let expected = ["user::rwx", "user:bob:r-x", "default:group:staff:---", "mask::r--", "other::--x"];
        assert_eq!(texts, expected);
        assert_eq!(describe(&parse("user:bob", false).expect("parsed")[0]), "user:bob:---");
        for wrong in ["", "user", "user:bob", "people:bob:rwx", "user:bob:rwxx", "user:bob:wrx", "a:b:c:d:e"]
        {
            assert!(parse(wrong, true).is_err(), "{wrong}");
        }
        assert!(parse("user:bob:rwx", false).is_err(), "what is removed has no permissions");
    }

    #[test]
    fn lists_are_shown_with_what_the_mask_leaves() {
        let entry = |scope, kind, name: Option<&str>, permission| AclEntry {
            scope,
            kind,
            name: name.map(str::to_owned),
            permission,
        };
        let entries = vec![
            entry(AclScope::Access, AclKind::User, Some("bob"), 7),
            entry(AclScope::Access, AclKind::Group, None, 5),
            entry(AclScope::Default, AclKind::Other, None, 0),
        ];
        let acl = Acl { owner: "ann".to_owned(), group: "staff".to_owned(), mode: 0o1750, entries };
        let expected = "# file: /d\n# owner: ann\n# group: staff\n# flags: --T\nuser::rwx\n\
                        user:bob:rwx\t#effective:r-x\ngroup::r-x\nmask::r-x\nother::---\ndefault:other::---\n";
        assert_eq!(render("/d", &acl), expected);
    }
}
