//! The largest names, paths and directories that there can be.

use ringfs_proto::limits::{DIRECTORY_ENTRIES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

use super::*;

/// What a walk below `/` visits, in pages of `page` entries.
fn walked(state: &State, page: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let mut walk =
            state.walk(Author::NAMENODE, ROOT, Everything { depth_max: 0 }, &after).expect("a root");
        let mut visits = 0;
        while visits < page && walk.next_visit().is_some() {
            found.push(walk.path().to_owned());
            visits += 1;
        }
        if visits < page {
            return found;
        }
        after = walk.path().to_owned();
    }
}

#[test]
fn names_may_be_anything_but_too_long() {
    let mut driver = Driver::new();
    let longest = format!("{}a", "é".repeat(127));
    assert_eq!(longest.len(), NAME_BYTES_MAX);
    let names = [longest.as_str(), " ", "a b", "*[x]{y}?", "\u{1f980}", "-rf", "\\", "\u{e9}", "e\u{301}"];
    for name in names {
        driver.file(&format!("/{name}"), &[1]);
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(walked(&driver.state, 2), sorted, "in the order of their bytes");
    for name in names {
        assert_eq!(driver.apply(rename(&format!("/{name}"), "/moved", false)), Ok(Applied::Done));
        assert_eq!(driver.apply(rename("/moved", &format!("/{name}"), false)), Ok(Applied::Done));
    }
    let too_long = Components::parse(&format!("/{longest}a")).map(|_| ()).expect_err("too long").code;
    assert_eq!(too_long, Code::NameTooLong);
}

#[test]
fn slashes_are_ignored_and_dots_refused() {
    assert_eq!(Components::parse("//a///b/").expect("valid").canonical(), "/a/b");
    for path in ["/a/..", "/a/../b", "/./a", "/a:b", "a", ""] {
        assert_eq!(
            Components::parse(path).map(|_| ()).expect_err(path).code,
            Code::InvalidArgument,
            "{path}"
        );
    }
}

#[test]
fn the_deepest_and_the_longest_path_are_walked_and_deleted() {
    let mut driver = Driver::new();
    let deepest = "/d".repeat(PATH_DEPTH_MAX);
    driver.apply(mkdirs(&deepest)).expect("made");
    let longest = format!("/{}", format!("{}/", "n".repeat(249)).repeat(32));
    let longest = &longest[..PATH_BYTES_MAX];
    driver.apply(mkdirs(longest)).expect("made");
    let depth = Components::parse(longest).expect("valid").names().len();
    for page in [1, 7, 10_000] {
        let found = walked(&driver.state, page);
        assert_eq!(found.len(), PATH_DEPTH_MAX + depth, "{page} a page");
        assert!(found.iter().any(|path| path.len() + 1 == deepest.len()));
    }
    for root in ["/d", &longest[..250]] {
        driver.apply(delete(root, true)).expect("deleted");
    }
    while driver.state.has_detached() {
        driver.apply(ChangeV1::Free).expect("freed");
    }
    assert_eq!(driver.state.counts(), Counts { directories: 1, ..Counts::default() });
    assert!(driver.state.free_steps_in_one_record() <= FREE_STEPS_PER_RECORD_MAX);
}

#[test]
fn a_directory_takes_a_million_entries_and_no_more() {
    let mut driver = Driver::new();
    let nobody = SessionId::default();
    let count = DIRECTORY_ENTRIES_MAX;
    for number in 0..count {
        // No retry results are kept for nobody, and no records of this many.
        driver.apply_as(nobody, CallId(0), mkdirs(&format!("/m/{number:07}"))).expect("made");
        driver.records.clear();
    }
    let refused = driver.apply(mkdirs("/m/one-more")).expect_err("full");
    assert_eq!(refused.code, Code::LimitExceeded);
    let page =
        |after: &str| driver.state.list(&Components::parse("/m").expect("valid"), after, 0).expect("listed");
    let (first, last) = (page(""), page(&format!("{:07}", count - 3)));
    assert_eq!((first.entries.len(), first.remaining), (1000, count - 1000));
    let names: Vec<_> = last.entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names, [count - 2, count - 1].map(|number| format!("{number:07}")));
    driver.apply(delete("/m", true)).expect("deleted");
    assert_eq!(driver.status("/m").map(|status| status.inode), Err(Code::NotFound));
    let mut records = 0;
    while driver.state.has_detached() {
        driver.apply_as(nobody, CallId(0), ChangeV1::Free).expect("freed");
        records += 1;
    }
    assert_eq!(driver.state.counts(), Counts { directories: 1, ..Counts::default() });
    assert_eq!(records, (2 * count as usize + 1) / FREE_STEPS_PER_RECORD_MAX, "besides the first");
}
