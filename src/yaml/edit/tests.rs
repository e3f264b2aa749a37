use serde_json::json;

use super::*;
use crate::yaml::change::{tests::patched, to_patch};
use crate::yaml::parse;

/// `text` with `changes`, after a check that the value is then what a patch would make of it.
fn changed(text: &str, changes: &[Change]) -> String {
    let document = parse(text).unwrap().remove(0);
    let after = apply(text, edits(text, &document.root, changes).unwrap());
    if !changes.iter().any(|change| matches!(change, Change::Remove(_))) {
        let expected = patched(&document.root.value().unwrap(), &to_patch(changes));
        let read =
            parse(&after).unwrap_or_else(|broken| panic!("{broken:?}\n{after}")).remove(0).root.value();
        assert_eq!(read, Some(expected), "{after}");
    }
    after
}

fn put(map: &str, key: &str, value: Value) -> Change {
    Change::Put { map: Path::of(map), key: key.to_owned(), value }
}

fn insert(list: &str, index: usize, value: Value) -> Change {
    Change::Insert { list: Path::of(list), index, values: vec![value] }
}

#[test]
fn entries_come_behind_the_last_one_and_comments_stay() {
    let text = "a:\n  b: 1 # one\n  # of c\n  c: |\n    x\n\n# of d\nd: 2\n";
    let after = changed(text, &[put("/a", "k", json!({"m": 1}))]);
    assert_eq!(after, "a:\n  b: 1 # one\n  # of c\n  c: |\n    x\n  k:\n    m: 1\n\n# of d\nd: 2\n");
    let after = changed("a: 1", &[put("", "b", json!(2)), put("", "c", json!(3))]);
    assert_eq!(after, "a: 1\nb: 2\nc: 3");
    let after = changed("a:\r\n  b: 1\r\nc: 2\r\n", &[put("/a", "d", json!([{"e": 1}]))]);
    assert_eq!(after, "a:\r\n  b: 1\r\n  d:\r\n  - e: 1\r\nc: 2\r\n");
}

#[test]
fn what_is_deep_comes_first_at_one_place() {
    let text = "a:\n  b:\n  - c: 1\n";
    let after =
        changed(text, &[put("/a", "e", json!(3)), put("", "f", json!(4)), put("/a/b/0", "d", json!(2))]);
    assert_eq!(after, "a:\n  b:\n  - c: 1\n    d: 2\n  e: 3\nf: 4\n");
}

#[test]
fn kept_line_ends_of_a_block_stay_in_it() {
    let text = "a:\n  b: |+\n    x\n\n\nc: 1\n";
    assert_eq!(changed(text, &[put("/a", "d", json!(1))]), "a:\n  b: |+\n    x\n\n\n  d: 1\nc: 1\n");
}

#[test]
fn items_stand_where_their_neighbours_do() {
    let text = "a:\n  # first\n  - x: 1\n    y: 2\n  # second\n  - z\nb: 1\n";
    let after = changed(text, &[insert("/a", 0, json!({"k": 1})), insert("/a", 2, json!("end"))]);
    assert_eq!(after, "a:\n  - k: 1\n  # first\n  - x: 1\n    y: 2\n  # second\n  - z\n  - end\nb: 1\n");
    let after = changed(text, &[insert("/a", 1, json!("new"))]);
    assert_eq!(after, "a:\n  # first\n  - x: 1\n    y: 2\n  - new\n  # second\n  - z\nb: 1\n");
    let after = changed("a:\n-\n  x: 1\n- # c\n  x: 2\n", &[insert("/a", 2, json!({"x": 3}))]);
    assert_eq!(after, "a:\n-\n  x: 1\n- # c\n  x: 2\n- x: 3\n");
}

#[test]
fn braces_get_json() {
    let text = "a: {b: 1, c: [x, y,]}   # kept\n";
    let after = changed(text, &[put("/a", "d", json!({"e": "f"})), insert("/a/c", 2, json!("z"))]);
    assert_eq!(after, "a: {b: 1, c: [x, y, \"z\"], \"d\": {\"e\":\"f\"}}   # kept\n");
    assert_eq!(changed("a: {}\n", &[put("/a", "b", json!(1))]), "a: {\"b\": 1}\n");
    assert_eq!(changed("a: []\n", &[insert("/a", 0, json!(1))]), "a: [1]\n");
    let json = "{\n  \"a\": {\n    \"b\": [1]\n  }\n}\n";
    let after = changed(json, &[put("/a", "c", json!(2)), insert("/a/b", 0, json!(0))]);
    assert_eq!(after, "{\n  \"a\": {\n    \"b\": [0, 1], \"c\": 2\n  }\n}\n");
}

#[test]
fn values_are_replaced_in_their_place() {
    let text = "a: 1 # c\nb: 'x'\nc:\nd:\n  e: 1\nf: 2\n";
    assert_eq!(changed(text, &[put("", "a", json!("two"))]), text.replace("a: 1", "a: two"));
    assert_eq!(changed(text, &[put("", "b", json!(7))]), text.replace("'x'", "7"));
    assert_eq!(changed(text, &[put("", "c", json!({"k": 1}))]), text.replace("c:\n", "c:\n  k: 1\n"));
    assert_eq!(changed(text, &[put("", "c", json!(5))]), text.replace("c:\n", "c: 5\n"));
    assert_eq!(changed(text, &[put("", "d", json!(5))]), text.replace("d:\n  e: 1\n", "d: 5\n"));
    let nested = "x:\n- y:\n    z: # none\n  w: 1\n";
    assert_eq!(
        changed(nested, &[put("/x/0/y", "z", json!({"k": 1}))]),
        nested.replace("none\n", "none\n      k: 1\n")
    );
}

#[test]
fn what_goes_takes_its_lines_along() {
    let text =
        "a:\n  b: 1\n  c: # x\n    d: 2\n  e: 3\nf:\n- 1\n- g: 1\n  h: 2\n- 3\ni: {j: 1, k: 2, l: 3}\n";
    let without = |path: &str| changed(text, &[Change::Remove(Path::of(path))]);
    assert_eq!(without("/a/c"), text.replace("  c: # x\n    d: 2\n", ""));
    assert_eq!(without("/f/1"), text.replace("- g: 1\n  h: 2\n", ""));
    assert_eq!(without("/i/j"), text.replace("j: 1, ", ""));
    assert_eq!(without("/i/l"), text.replace(", l: 3", ""));
}

#[test]
fn what_is_shared_is_refused() {
    let text = "a: &a\n  b: 1\nc: *a\n";
    let document = parse(text).unwrap().remove(0);
    let refused = edits(text, &document.root, &[put("/c", "d", json!(1))]).unwrap_err();
    assert_eq!((refused.path.as_str(), refused.line), ("/c", 3));
}
