"""Prices of clouds in the fleet file: matched by what a node has, shown before they are written, never guessed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from tests.command import Call, caller, widen
from tests.execute.cloud.aws import StrictAws

from gangplan.config import read_fleet, write_fleet
from gangplan.types import Fleet, Pool, PoolKind

# The columns of AWS' and Google's files; Google's prices machines and accelerators apart, as SkyPilot does.
AWS = """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,AvailabilityZone,Arch
a1.large,,,2.0,4.0,0.051,0.051000,us-east-1,use1-az2,arm64
p5.48xlarge,H100,8.0,192.0,2048.0,55.04,21.500000,us-east-1,use1-az1,x86_64
p5.48xlarge,H100,8.0,192.0,2048.0,55.04,19.250000,us-east-1,use1-az6,x86_64
p4d.24xlarge,A100,8.0,96.0,1152.0,21.96,,us-east-1,use1-az1,x86_64
p4de.24xlarge,A100-80GB,8.0,96.0,1152.0,27.45,,us-east-1,use1-az1,x86_64
g6.xlarge,L4,1.0,4.0,16.0,0.8048,0.3,us-east-1,use1-az1,x86_64
g6.2xlarge,L4,1.0,8.0,32.0,"0,9776",0.4,us-east-1,use1-az1,x86_64
p5.48xlarge,H100,8.0,192.0,2048.0,68.80,30.100000,eu-west-1,euw1-az1,x86_64
"""
GCP = """InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice
a3-highgpu-8g,208.0,1872.0,,,,us-central1,us-central1-a,9.46006,2.88933
,,,H100,8.0,,us-central1,us-central1-a,78.42,23.9
"""


def pool(name: str, accelerator: str = "h100", gpus: int = 8, kind: str = "on_demand", zone: str = "use1-az1") -> Pool:
    """A pool of machines in us-east-1."""
    return Pool(
        name=name,
        accelerator=accelerator,
        gpus_per_node=gpus,
        kind=PoolKind(kind),
        price_per_node_hour=30.0,
        max_nodes=4,
        region="us-east-1",
        zone=zone,
    )


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the command in a home with both catalogs."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path))
    widen(monkeypatch, 160)
    monkeypatch.chdir(tmp_path)
    Path("aws.csv").write_text(AWS)
    Path("gcp.csv").write_text(GCP)
    return caller(monkeypatch, capsys)


def keep(*pools: Pool) -> None:
    """Write the fleet file."""
    write_fleet(Path("fleet.yaml"), Fleet(pools=pools, nodes={pools[0].name: 1}))


def prices() -> dict[str, float]:
    """Return the prices of the fleet file."""
    return {each.name: each.price_per_node_hour for each in read_fleet(Path("fleet.yaml")).pools}


IMPORT = ("prices", "import", "--skypilot", "aws.csv")


def test_prices_are_matched_and_written(call: Call) -> None:
    """On demand and spot by accelerator, count, region and zone; nothing else of the fleet file changes."""
    keep(pool("day"), pool("spot", kind="spot"), pool("own", kind="owned"))
    before = read_fleet(Path("fleet.yaml"))
    said = call(*IMPORT, "--yes")
    assert said.code == 0
    assert [word in said.out for word in ("p5.48xlarge", "55.04", "+83.5%")] == [True, True, True]
    assert prices() == {"day": 55.04, "spot": 21.5, "own": 30.0}
    assert read_fleet(Path("fleet.yaml")).nodes == before.nodes
    assert "No price differs" in call(*IMPORT, "--yes").out


def test_nothing_is_written_unless_somebody_agrees(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is shown first; JSON asks nobody and writes only with --yes."""
    keep(pool("day"))
    monkeypatch.setattr("sys.stdin", StringIO("n\ny\n"))
    assert "55.04" in call(*IMPORT).out
    assert call(*IMPORT, "--json").json["written"] == []
    assert prices() == {"day": 30.0}
    assert call(*IMPORT, "--json", "--yes").json == {
        "changes": [{"pool": "day", "machine": "p5.48xlarge", "zone": "use1-az1", "before": 30.0, "after": 55.04}],
        "written": [str(Path("fleet.yaml").absolute())],
    }
    keep(pool("day"))
    call(*IMPORT)
    assert prices() == {"day": 55.04}


def test_another_region_is_asked_for(call: Call) -> None:
    """`--region` stands for that of all pools; the pool's zone need not be in it where the price is one."""
    keep(pool("day"))
    call(*IMPORT, "--region", "eu-west-1", "--yes")
    assert prices() == {"day": 68.8}


def test_a_machine_and_its_accelerators_are_added(call: Call) -> None:
    """Google's machines are priced without their accelerators: the type has to be named."""
    keep(pool("day", zone="us-central1-a"))
    google = ("prices", "import", "--skypilot", "gcp.csv", "--region", "us-central1", "--yes")
    said = call(*google)
    assert (said.code, prices()) == (2, {"day": 30.0})
    assert "priced without a machine in us-central1: name the type, --machine day=TYPE" in said.err
    call(*google, "--machine", "day=a3-highgpu-8g")
    assert prices() == {"day": pytest.approx(87.88006)}


@pytest.mark.parametrize(
    ("pools", "words", "message"),
    [
        ([pool("a", "b200")], (), "8 x b200' is not offered in us-east-1 (numbers of b200 that are: none)"),
        ([pool("a", gpus=4)], (), "4 x h100' is not offered in us-east-1 (numbers of h100 that are: 8)"),
        ([pool("a", "a100")], (), "different prices (p4d.24xlarge 21.96, p4de.24xlarge 27.45): name one, --machine a="),
        (
            [pool("a", kind="spot", zone="x")],
            (),
            "differs by zone (use1-az1 21.5, use1-az6 19.25): set the pool's zone",
        ),
        (
            [pool("a", "a100", kind="spot")],
            ("--machine", "a=p4d.24xlarge"),
            "p4d.24xlarge: '' is no price",
        ),
        ([pool("a", "l4", 1)], ("--machine", "a=g6.2xlarge"), "'0,9776' is no price (aws.csv line 8): write it in"),
        ([pool("a")], ("--machine", "a=p4d.24xlarge"), "is not offered with 8 x h100 in us-east-1"),
        ([pool("a")], ("--machine", "b=p4d.24xlarge"), "'b' is not in the fleet"),
        ([pool("a")], ("--machine", "p4d.24xlarge"), "give it like h100=p5.48xlarge"),
        ([pool("a")], ("--machine", "a=x", "--machine", "a=y"), "names a twice"),
        ([pool("a")], ("--region", "mars"), "'mars' is not in the catalog: --region eu-west-1, us-east-1"),
        ([pool("a", kind="owned")], (), "has no pool of kind on_demand or spot"),
        ([pool("a", kind="owned")], ("--pool", "a"), "has a price of its own"),
        ([pool("a"), pool("b", "b200")], (), "8 x b200' is not offered"),
    ],
)
def test_what_is_in_doubt_is_refused(call: Call, pools: list[Pool], words: tuple[str, ...], message: str) -> None:
    """The error names field, value and remedy; no price of any pool is written."""
    keep(*pools)
    said = call(*IMPORT, *words, "--yes")
    assert (said.code, set(prices().values())) == (2, {30.0})
    assert message in said.err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a,b\n1,2\n", "has no column InstanceType"), (b"\xff\xfe\x00", "is no table"), (None, "cannot be read")],
)
def test_a_file_that_is_no_catalog_is_refused(call: Call, content: bytes | None, message: str) -> None:
    """Nothing is written."""
    keep(pool("day"))
    if content is not None:
        Path("other.csv").write_bytes(content)
    said = call("prices", "import", "--skypilot", "other.csv", "--yes")
    assert (said.code, message in said.err, prices()) == (2, True, {"day": 30.0})


SPOT = ("prices", "spot", "--pool", "spot", "--machine", "spot=p5.48xlarge")


def test_spot_prices_come_from_ec2(call: Call, aws: StrictAws) -> None:
    """The mean over the last day, in the pool's zone; the price before it holds until the first change."""
    keep(pool("spot", kind="spot", zone="us-east-1b"))
    aws.spot_prices = [
        ("us-east-1a", "2026-03-01T00:00:00Z", "90.0"),
        ("us-east-1b", "2026-03-02T03:00:00Z", "20.0"),
        ("us-east-1b", "2026-03-01T00:00:00Z", "12.0"),
    ]
    call(*SPOT, "--yes")
    assert prices() == {"spot": pytest.approx((12 * 18 + 20 * 6) / 24)}
    assert aws.calls == ["ec2:DescribeSpotPriceHistory"]


@pytest.mark.parametrize(
    ("kind", "zone", "words", "message"),
    [
        ("spot", "local-a", SPOT, "has no spot price of p5.48xlarge in us-east-1: use us-east-1a, us-east-1b"),
        ("on_demand", "us-east-1a", SPOT, "has no spot price: name spot pools"),
        ("spot", "us-east-1a", SPOT[:4], "--machine spot=TYPE"),
    ],
)
def test_a_spot_price_in_doubt_is_refused(
    call: Call, aws: StrictAws, kind: str, zone: str, words: tuple[str, ...], message: str
) -> None:
    """Another zone's price is none; nothing is written."""
    keep(pool("spot", kind=kind, zone=zone))
    aws.spot_prices = [(f"us-east-1{letter}", "2026-03-01T00:00:00Z", "9.0") for letter in "ab"]
    said = call(*words, "--yes")
    assert (said.code, message in said.err, prices()) == (2, True, {"spot": 30.0})
