import pytest

from interpd.errors import DataLoss, LimitExceeded
from interpd.wire.chunks import CHUNK_BYTES, ByteAssembler, chunks_of
from interpd.wire.v1 import tensor_pb2 as pb

DATA = bytes(range(256)) * 10_000


def assemble(chunks, total=2_560_000):
    assembler = ByteAssembler(total, 1 << 30, "result 'h'")
    return [whole for whole in map(assembler.feed, chunks) if whole is not None]


def test_bytes_come_back_in_pieces_of_one_mebibyte():
    chunks = list(chunks_of(DATA))
    assert [len(chunk.data) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, len(DATA) - 2 * CHUNK_BYTES]
    assert assemble(chunks) == [DATA]


def test_no_bytes_are_one_empty_last_piece():
    (chunk,) = chunks_of(b"")
    assert chunk.last
    assert assemble([chunk], total=0) == [b""]


def test_a_multiple_of_the_piece_size_has_no_empty_tail():
    assert [chunk.last for chunk in chunks_of(bytes(2 * CHUNK_BYTES))] == [False, True]


def test_pieces_are_made_when_they_are_asked_for():
    chunks = chunks_of(bytes(1 << 26))
    assert next(chunks).offset == 0


def _damage(how):
    chunks = list(chunks_of(DATA))
    if how == "flipped bit":
        chunks[1].data = b"\x01" + chunks[1].data[1:]
    elif how == "lost piece":
        del chunks[1]
    elif how == "doubled piece":
        chunks.insert(1, chunks[0])
    elif how == "swapped pieces":
        chunks[0], chunks[1] = chunks[1], chunks[0]
    elif how == "early end":
        chunks[1].last = True
    elif how == "empty piece":
        chunks.insert(1, pb.Chunk(offset=CHUNK_BYTES))
    return chunks


@pytest.mark.parametrize(
    "how", ["flipped bit", "lost piece", "doubled piece", "swapped pieces", "early end", "empty piece"]
)
def test_damage_is_noticed(how):
    with pytest.raises(DataLoss, match=r"result 'h' arrived damaged: .*; send it again"):
        assemble(_damage(how))


def test_more_bytes_than_announced_are_refused():
    with pytest.raises(DataLoss, match="1048576 bytes arrived, 1000 were announced"):
        assemble(chunks_of(DATA), total=1000)


def test_a_size_beyond_the_limit_is_refused_before_any_byte():
    with pytest.raises(LimitExceeded, match="result 'h' has 2000 bytes, at most 1000 are taken") as caught:
        ByteAssembler(2000, 1000, "result 'h'")
    assert caught.value.facts == {"limit_bytes": "1000", "asked_bytes": "2000"}
