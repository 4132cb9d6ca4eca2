"""How far a partition of track has come, as an audit and a restart read it."""

from agents.kafka.tracking import Position


def test_an_epoch_is_built_once_its_sweep_is_through_whether_or_not_it_is_shown_everywhere() -> None:
    assert Position(epoch=1, coming=2, cursor="m").built == 1
    swept = Position(epoch=1, coming=2, swept=True, shown=[0])
    assert swept.built == 2
    assert not swept.enter(partitions=2)
    swept.shown = [0, 1]
    assert swept.enter(partitions=2)
    assert (swept.epoch, swept.built) == (2, 2)
