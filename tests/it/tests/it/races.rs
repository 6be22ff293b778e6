//! Two nodes change the control topic at the same moment: one wins, the other is told so. `tests/races.sh` is the long form.

use it::place::{guest, kafka};
use it::races::Races;

const COUNT: u64 = 50;

#[test]
fn of_two_who_change_one_thing_one_wins() {
    let (Some(address), Some(module)) = (kafka(), guest("pass")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut races = Races::begin(dir.path(), &address, &std::fs::read(module).unwrap(), 1);
    for _ in 0..COUNT {
        races.race();
    }
    let figures = races.end();
    assert!(figures.wrongs.is_empty(), "{figures}");
    assert!(
        figures.wins.iter().sum::<u64>() > COUNT / 3,
        "hardly a race:\n{figures}"
    );
}
