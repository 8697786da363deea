from pathlib import Path

import msgspec
import pytest

from fairlead.errors import InvalidSetting, UnknownSetting
from fairlead.settings import Settings, describe, load_settings
from fairlead.stores.keyvalue import SCHEMES


def settings(tmp_path: Path, text: str = "", flags=None, **environment: str) -> Settings:
    file = tmp_path / "fairlead.toml"
    file.write_text(text)
    return load_settings(flags, environment=environment, file=file)


def test_defaults_need_nothing_and_stay_on_the_loopback(tmp_path):
    found = settings(tmp_path)
    assert found == Settings()
    assert found.host == found.admin_host == "127.0.0.1"
    assert found.database.startswith("sqlite:///")
    assert found.gateway_workers >= 1


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    text = "port = 1\nadmin_port = 1\nworkers = 1\n"
    found = settings(
        tmp_path,
        text,
        {"port": 3, "admin_port": None},
        FAIRLEAD_PORT="2",
        FAIRLEAD_ADMIN_PORT="2",
    )
    assert (found.port, found.admin_port, found.workers) == (3, 2, 1)


def test_tables_of_the_file_join_their_names(tmp_path):
    assert settings(tmp_path, '[log]\nfsync = "always"\n').log_fsync == "always"


@pytest.mark.parametrize(
    ("environment", "near"),
    [({"FAIRLEAD_LOG_FSINC": "always"}, "log_fsync"), ({"FAIRLEAD_PROT": "1"}, "port")],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(tmp_path, environment, near):
    with pytest.raises(UnknownSetting, match=near):
        settings(tmp_path, **environment)


def test_an_unknown_name_in_the_file_names_the_file(tmp_path):
    with pytest.raises(UnknownSetting, match=r"fairlead\.toml"):
        settings(tmp_path, "[log]\ncolour = 1\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "65536"), ("PORT", "eighty"), ("WORKERS", "-1"), ("LOG_FSYNC", "sometimes"),
     ("IDLE_SECONDS", "0"), ("MAX_BODY_BYTES", "0"), ("TRUST_PICKLE", "perhaps")],
)  # fmt: skip
def test_a_value_that_breaks_its_rule_is_refused_by_name(tmp_path, name, value):
    with pytest.raises(InvalidSetting, match=name.lower()):
        settings(tmp_path, **{f"FAIRLEAD_{name}": value})


def test_text_from_the_environment_takes_the_settings_type(tmp_path):
    found = settings(tmp_path, FAIRLEAD_TRUST_PICKLE="true", FAIRLEAD_IDLE_SECONDS="2", FAIRLEAD_WORKERS="3")
    assert (found.trust_pickle, found.idle_seconds, found.workers) == (True, 2.0, 3)


def test_text_in_the_file_is_no_number(tmp_path):
    with pytest.raises(InvalidSetting, match="workers"):
        settings(tmp_path, "workers = [1]")


def test_a_file_that_is_no_toml_or_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidSetting, match="TOML"):
        settings(tmp_path, "port = = 1")
    with pytest.raises(InvalidSetting, match="not there"):
        load_settings(environment={"FAIRLEAD_CONFIG": str(tmp_path / "nowhere.toml")})


def test_what_is_the_clients_business_is_no_server_setting(tmp_path):
    environment = {"FAIRLEAD_URL": "http://x", "FAIRLEAD_ADMIN_URL": "http://y", "FAIRLEAD_API_KEY": "k"}
    assert settings(tmp_path, **environment) == Settings()


def test_every_setting_says_what_it_means():
    assert [name for name, *_ in describe()] == list(Settings.__struct_fields__)
    assert all(meaning for *_, meaning in describe())


def test_settings_travel_to_child_processes_unchanged():
    given = Settings(port=1, log_fsync="interval", data="große daten")
    assert msgspec.json.decode(msgspec.json.encode(given), type=Settings) == given


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_cache_may_be_in_any_store_that_there_is(tmp_path, scheme):
    assert settings(tmp_path, FAIRLEAD_CACHE_URL=f"{scheme}://host").cache_url == f"{scheme}://host"


@pytest.mark.parametrize(
    "url", ["memcached://ada:geheim@host", "redis:ada:geheim@host", "", "xredis://geheim"]
)
def test_another_cache_is_refused_naming_the_known_ones_and_no_password_is_repeated(tmp_path, url):
    with pytest.raises(InvalidSetting, match="cache_url") as caught:
        settings(tmp_path, FAIRLEAD_CACHE_URL=url)
    message = str(caught.value)
    assert "geheim" not in message
    assert all(scheme in message for scheme in SCHEMES)
