"""Downloads from a real server on a socket: resumed, verified, unpacked safely, or refused."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from training.cli import register
from training.data import download as module
from training.data.download import download
from training.data.sources import SOURCES, Archive, Source, source_named
from training.errors import DataError

HOLDS = "outer/inner"
unpacks = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="unpacking safely needs Python 3.11.4 or later"
)
SPARE = 40_000  # bytes that do not compress, so that a transfer takes several reads


def tar(*more: tarfile.TarInfo, holds: str = HOLDS) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in ((f"{holds}/a.txt", b"a"), (f"{holds}/b/c.bin", bytes(SPARE))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Server(ThreadingHTTPServer):
    """Serves one body; `cut` gives the bytes after which each answer breaks off."""

    def __init__(self, body: bytes, *, cut: tuple[int, ...] = (), ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.cut, self.ranges = body, list(cut), ranges
        self.asked: list[str | None] = []

    def source(self, expected: bytes | None = None, algorithm: str = "sha256") -> Source:
        content = self.body if expected is None else expected
        digest = hashlib.new(algorithm, content).hexdigest()
        return Source(
            title="Generated",
            page="http://127.0.0.1/",
            archive=Archive(
                url=f"http://127.0.0.1:{self.server_port}/files/some.tar.gz",
                bytes=len(content),
                checksum=f"{algorithm}:{digest}",
                holds=HOLDS,
            ),
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        body, start = self.server.body, 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + self.server.cut.pop(0) if self.server.cut else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[tuple[Server, threading.Thread]] = []

    def start(body: bytes, **options: object) -> Server:
        server = Server(body, **options)  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


Serve = Callable[..., Server]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
@unpacks
def test_a_dataset_is_fetched_verified_and_unpacked(
    serve: Serve, tmp_path: Path, algorithm: str
) -> None:
    to = tmp_path / "new" / "data"
    folder = download(serve(tar()).source(algorithm=algorithm), to)
    assert folder == to / HOLDS
    assert (folder / "a.txt").read_bytes() == b"a"
    assert (folder / "b" / "c.bin").stat().st_size == SPARE
    assert [file.name for file in to.iterdir()] == ["outer"]  # and nothing of the way there


@unpacks
def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(serve: Serve, tmp_path: Path) -> None:
    server = serve(tar(), cut=(10, 20))
    download(server.source(), tmp_path)
    assert server.asked == [None, "bytes=10-", "bytes=30-"]
    assert (tmp_path / HOLDS / "a.txt").is_file()


@unpacks
def test_a_later_call_goes_on_too(serve: Serve, tmp_path: Path) -> None:
    server = serve(tar(), cut=(7,) * module.TRIES)
    have = 7 * module.TRIES
    with pytest.raises(DataError, match=f"broke off at {have} of .* the same command goes on"):
        download(server.source(), tmp_path)
    download(server.source(), tmp_path)
    assert server.asked[-1] == f"bytes={have}-"
    assert (tmp_path / HOLDS / "a.txt").is_file()


@unpacks
def test_a_server_without_ranges_sends_all_of_it_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(tar(), cut=(10,), ranges=False)
    download(server.source(), tmp_path)
    assert server.asked == [None, "bytes=10-"]
    assert (tmp_path / HOLDS / "a.txt").is_file()


def test_a_wrong_checksum_stops_before_anything_is_unpacked(serve: Serve, tmp_path: Path) -> None:
    body = tar()
    forged = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(DataError, match=r"expected sha256 .*, got .*, and was removed"):
        download(serve(forged).source(expected=body), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [b"", b"x" * 5000])
def test_a_file_of_another_size_is_refused(serve: Serve, tmp_path: Path, change: bytes) -> None:
    body = tar()
    server = serve(body + change if change else body[:-9])
    with pytest.raises(DataError, match=r"bytes, got|closed early"):
        download(server.source(expected=body), tmp_path)
    assert not (tmp_path / "outer").exists()


@pytest.mark.parametrize(
    "evil",
    [
        member("../outside.txt"),
        member("outer/../../outside.txt"),
        member("/superbin-outside.txt"),
        member("outer/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("outer/link", tarfile.SYMTYPE, "inner/a.txt"),
        member("outer/link", tarfile.LNKTYPE, "outer/inner/a.txt"),
        member("outer/pipe", tarfile.FIFOTYPE),
        member("outer/device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type!r}-{info.linkname}",
)
@unpacks
def test_a_malicious_archive_leaves_nothing_behind(
    serve: Serve, tmp_path: Path, evil: tarfile.TarInfo
) -> None:
    to = tmp_path / "to"
    body = tar(evil)
    if evil.name.startswith("/"):  # Python's filter makes it relative, which is as good
        download(serve(body).source(), to)
        assert not Path(evil.name).exists()
        return
    with pytest.raises(DataError, match="cannot be unpacked"):
        download(serve(body).source(), to)
    assert [file.name for file in to.iterdir()] == ["some.tar.gz.part"]
    assert [file.name for file in tmp_path.iterdir()] == ["to"]


@unpacks
def test_an_archive_of_something_else_is_refused(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be unpacked"):
        download(serve(b"no tar").source(), tmp_path / "a")
    with pytest.raises(DataError, match="expected a folder outer/inner in it"):
        download(serve(tar(holds="other")).source(), tmp_path / "b")
    assert not (tmp_path / "b" / "outer").exists()


def test_without_a_network_it_says_what_to_fetch_and_how_to_go_on(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/some.tar.gz"
        archive = Archive(url=url, bytes=9, checksum=f"md5:{'0' * 32}", holds=HOLDS)
        source = Source(title="Generated", page="http://127.0.0.1/", archive=archive)
        with pytest.raises(DataError) as raised:
            download(source, tmp_path)
    told = str(raised.value)
    assert "\n" not in told
    for part in (url, "refused", "9 bytes", "md5:000", "--archive FILE"):
        assert part in told


def test_a_server_that_has_it_no_more_is_told(serve: Serve, tmp_path: Path) -> None:
    server = serve(tar())
    Path(tmp_path / "some.tar.gz.part").write_bytes(b"x" * 10)
    server.RequestHandlerClass = type("Gone", (Handler,), {"do_GET": lambda s: s.send_error(404)})
    with pytest.raises(DataError, match="the server answers 404 Not Found"):
        download(server.source(), tmp_path)


@unpacks
def test_a_file_that_was_fetched_elsewhere_is_verified_and_kept(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(tar())
    file = tmp_path / "fetched.tar.gz"
    file.write_bytes(server.body[:-1])
    with pytest.raises(DataError, match=r"expected .* bytes, got"):
        download(server.source(), tmp_path / "to", file)
    file.write_bytes(server.body)
    download(server.source(), tmp_path / "to", file)
    assert file.is_file()
    assert not server.asked
    with pytest.raises(DataError, match="is there already"):
        download(server.source(), tmp_path / "to", file)
    with pytest.raises(DataError, match="expected the file http"):
        download(server.source(), tmp_path / "other", tmp_path / "absent")


def test_every_source_is_complete_and_every_checksum_has_its_form() -> None:
    names = tomllib.loads(SOURCES.read_text(encoding="utf-8"))
    assert set(names) == {"cifar100", "voc-2012", "mini-imagenet", "adience", "fmow"}
    assert {name for name in names if source_named(name).archive} == {"cifar100", "voc-2012"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("adience",), "Adience has to be brought by hand (https://"),
        (("mini-imagenet",), "train.csv, val.csv and test.csv"),
        (("fmow",), "aws s3 sync"),
        (("imagenet",), "expected a dataset of adience, cifar100, fmow"),
        (("cifar100", "--archive", "absent.tar.gz"), "expected the file https://www.cs.toronto"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["download", *arguments, "--to", str(tmp_path / "to")])
    assert result.exit_code == 2
    assert told in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "to").exists()
