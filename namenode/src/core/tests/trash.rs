//! The trash: checkpoints are made and deleted when it is time.

use super::*;

const MINUTE_MS: u64 = 60_000;

impl Fixture {
    fn with_trash(kept: u32, period: u32) -> Self {
        let mut fixture = Self::new();
        fixture.core.config.trash_interval_minutes = kept;
        fixture.core.config.trash_checkpoint_interval_minutes = period;
        fixture
    }

    fn pass_minutes(&mut self, minutes: u64) {
        for _ in 0..minutes {
            self.now.mono_ms += MINUTE_MS;
            self.now.wall_ms += MINUTE_MS;
            self.core.tick(self.now);
            self.make_durable();
        }
        self.core.take_answers();
    }

    fn names(&mut self, path: &str) -> Vec<String> {
        let client = self.client();
        let list = ListRequestV1 { path: path.to_owned(), start_after: String::new(), entries_max: 0 };
        match self.call(&client, Request::List(list)) {
            Ok(Reply::List(reply)) => reply.entries.into_iter().map(|entry| entry.name).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn trash_becomes_a_checkpoint_and_goes_when_it_is_old() {
    let mut fixture = Fixture::with_trash(30, 10);
    let client = fixture.client();
    for user in ["ann", "bob"] {
        let trash = format!("/user/{user}/.Trash/Current/data/f");
        fixture.create(&client, &trash);
    }
    fixture.create(&client, "/user/carl/f");
    fixture.create(&client, "/user/ann/.Trash/mine/f");
    fixture.pass_minutes(11);
    let names = fixture.names("/user/ann/.Trash");
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].len() == 12 && names[0].bytes().all(|byte| byte.is_ascii_digit()), "{names:?}");
    assert_eq!(fixture.names(&format!("/user/ann/.Trash/{}", names[0])), ["data"]);
    assert_eq!(fixture.names("/user/bob/.Trash"), names[..1]);
    fixture.create(&client, "/user/ann/.Trash/Current/later");
    fixture.pass_minutes(10);
    assert_eq!(fixture.names("/user/ann/.Trash").len(), 3);
    fixture.pass_minutes(40);
    let names = fixture.names("/user/ann/.Trash");
    assert_eq!(names, ["mine"], "the checkpoints are gone, what has another name stays");
    assert!(fixture.names("/user/bob/.Trash").is_empty());
    assert_eq!(fixture.names("/user/carl"), ["f"]);
}

#[test]
fn without_an_interval_there_is_no_trash() {
    let mut fixture = Fixture::with_trash(0, 10);
    let client = fixture.client();
    fixture.create(&client, "/user/ann/.Trash/Current/f");
    fixture.pass_minutes(100);
    assert_eq!(fixture.names("/user/ann/.Trash"), ["Current"]);
}

#[test]
fn many_users_take_several_turns_and_names_do_not_collide() {
    let mut fixture = Fixture::with_trash(10, 0);
    let client = fixture.client();
    for user in 0..250 {
        fixture.create(&client, &format!("/user/u{user:03}/.Trash/Current/f"));
    }
    fixture.pass_minutes(7);
    let is_done = |fixture: &mut Fixture, user: u32| {
        let names = fixture.names(&format!("/user/u{user:03}/.Trash"));
        assert_eq!(names.len(), 1, "{user}: {names:?}");
        names[0] != "Current"
    };
    assert!(is_done(&mut fixture, 99) && !is_done(&mut fixture, 100), "a hundred in the first turn");
    fixture.pass_minutes(2);
    assert!(is_done(&mut fixture, 100) && is_done(&mut fixture, 249));
}

#[test]
fn checkpoints_of_one_second_have_names_of_their_own() {
    let mut fixture = Fixture::with_trash(10, 0);
    let client = fixture.client();
    for file in 0..3 {
        fixture.create(&client, &format!("/user/ann/.Trash/Current/{file}"));
        fixture.core.emptier.after = Some(String::new());
        fixture.core.look_at_trash(fixture.now);
        fixture.make_durable();
    }
    let names = fixture.names("/user/ann/.Trash");
    assert_eq!(names, ["231114221320", "231114221320-1", "231114221320-2"]);
}
