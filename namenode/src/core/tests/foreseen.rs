//! Changes that are known to change nothing cost no record.

use super::*;

#[test]
fn what_is_known_to_change_nothing_is_not_logged() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    fixture.create(&client, "/d/f");
    let inode = fixture.create(&client, "/d/g");
    let close = CompleteRequestV1 { inode, last: None, acked: Vec::new(), tail: None };
    fixture.call(&client, Request::Complete(close)).expect("closed");
    let mkdirs = |path: &str, create_parents| {
        Request::Mkdirs(MkdirsRequestV1 {
            path: path.to_owned(),
            mode: 0o755,
            unmasked_mode: 0o755,
            create_parents,
        })
    };
    let rename = |source: &str, target: &str| {
        let (source, target) = (source.to_owned(), target.to_owned());
        Request::Rename(RenameRequestV1 { source, target, overwrite: false })
    };
    let remove = |path: &str| Request::Delete(DeleteRequestV1 { path: path.to_owned(), recursive: false });
    let cases: Vec<(Request, Result<(), Code>, usize)> = vec![
        (mkdirs("/d", true), Ok(()), 0),
        (mkdirs("/d/f", true), Err(Code::AlreadyExists), 0),
        (mkdirs("/d/f/x", true), Err(Code::NotADirectory), 0),
        (mkdirs("/x/y", false), Err(Code::NotFound), 0),
        (create("/d/g"), Err(Code::AlreadyExists), 0),
        (create("/d"), Err(Code::IsADirectory), 0),
        (create("/d/f"), Err(Code::LeaseHeld), 1),
        (rename("/none", "/x"), Err(Code::NotFound), 0),
        (rename("/d/f", "/d"), Err(Code::AlreadyExists), 0),
        (remove("/none"), Ok(()), 0),
        (remove("/d"), Err(Code::NotEmpty), 0),
        (mkdirs("/x", true), Ok(()), 1),
    ];
    for (number, (request, expected, records)) in (100..).zip(cases) {
        fixture.send(&client, CallId(number), request.clone());
        assert_eq!(fixture.make_durable(), records, "{request:?}");
        let answer = fixture.answer().expect("an answer").map(|_| ()).map_err(|error| error.code);
        assert_eq!(answer, expected, "{request:?}");
    }
    // What waits to be applied may change it.
    fixture.send(&client, CallId(200), delete("/d"));
    fixture.send(&client, CallId(201), mkdirs("/d", true));
    assert_eq!(fixture.make_durable(), 2);
    assert_eq!(fixture.core.take_answers().len(), 2);
    assert!(fixture.core.state().stat(&ringfs_proto::path::Components::parse("/d").expect("valid")).is_ok());
}
