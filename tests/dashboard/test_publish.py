"""Publishing through the real wandb-workspaces to a server that keeps views: a second call updates, it adds nothing."""

import json
import sys
from types import SimpleNamespace

import pytest
import wandb

from cdsa_lightning.dashboard.local import read_local
from cdsa_lightning.dashboard.panels import PANELS
from cdsa_lightning.dashboard.publish import publish
from cdsa_lightning.dashboard.specification import read_specification, specify, write_specification
from cdsa_lightning.errors import InputError
from dashboard_files import leave_runs


class Server:
    """What W&B answers to the queries of wandb-workspaces; views are {id: view}."""

    app_url = "https://wandb.example/"

    def __init__(self, projects=("cdsa",), page=100):
        self.projects, self.page, self.views, self.saved = set(projects), page, {}, []

    def execute_graphql(self, query, variables):
        if "upsertView" in query:
            return self.upsert(variables)
        project = variables.get("project") or variables.get("projectName") or variables.get("name")
        if project not in self.projects:
            return {"project": None}
        if "internalId" in query:
            return {"project": {"internalId": f"internal-{project}"}}
        kind = variables.get("kind") or variables["viewType"]
        found = [view for view in self.views.values() if (view["type"], view["project"]) == (kind, project)]
        if variables.get("viewName"):
            found = [view for view in found if view["name"] == variables["viewName"]]
        start = int(variables.get("after") or 0)
        ends = start + self.page
        info = {"endCursor": str(ends), "hasNextPage": ends < len(found)}
        return {"project": {"allViews": {"edges": [{"node": view} for view in found[start:ends]], "pageInfo": info}}}

    def upsert(self, variables):
        name = variables.get("id") or f"view-{len(self.views)}"
        assert variables.get("id") in (None, "", *self.views), "an id that nobody gave out"
        view = {
            "id": name,
            "name": variables["name"],
            "displayName": variables["displayName"],
            "description": variables["description"],
            "type": variables["type"],
            "spec": variables["spec"],
            "project": variables["projectName"],
        }
        self.views[name] = view
        self.saved.append((variables["entityName"], name))
        owner = {"name": view["project"], "entityName": variables["entityName"]}
        return {"upsertView": {"view": {**view, "project": owner}, "inserted": not variables.get("id")}}

    def of(self, kind):
        return [view for view in self.views.values() if view["type"] == kind]


@pytest.fixture
def server(monkeypatch):
    made = Server()

    class Api:
        default_entity = "me"

        def __init__(self):
            self._service_api = made

        def projects(self, entity):
            return [SimpleNamespace(name=name) for name in made.projects]

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return made


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    return specify(read_local(leave_runs(tmp_path_factory.mktemp("runs"))), "cdsa", "CDSA dashboard")


def sections(server):
    (view,) = server.of("project-view")
    return json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]


def without_ids(value):
    """`value` without the random ids that the library gives panels and run sets."""
    if isinstance(value, dict):
        return {key: without_ids(entry) for key, entry in value.items() if key not in ("id", "__id__")}
    return [without_ids(entry) for entry in value] if isinstance(value, list) else value


def test_a_workspace_and_a_report_are_made(server, specification):
    addresses = publish(specification)
    assert [view["displayName"] for view in server.views.values()] == ["CDSA dashboard"] * 2
    assert {view["type"] for view in server.views.values()} == {"project-view", "runs"}
    assert all(address.startswith("https://wandb.example/me/cdsa") for address in addresses)
    assert [section["name"] for section in sections(server)] == [one.name for one in specification.sections]


def test_every_panel_of_both_shows_the_keys_of_the_specification(server, specification):
    publish(specification)
    wanted = {key for section in specification.sections for panel in section.panels for key in panel.keys}
    for kind in ("project-view", "runs"):
        (view,) = server.of(kind)
        missing = [key for key in wanted if json.dumps(key)[1:-1] not in view["spec"]]
        assert not missing, (kind, missing)
        assert "trainer/global_step" in view["spec"] and "coefficients.value.k1" in view["spec"]
    kinds = [panel["viewType"] for section in sections(server) for panel in section["panels"]]
    assert set(kinds) == {"Bar Chart", "Media Browser", "Run History Line Plot", "Parallel Coordinates Plot"}


def test_a_second_call_updates_what_the_first_made(server, specification):
    first = publish(specification)
    before = {key: json.loads(view["spec"]) for key, view in server.views.items()}
    assert publish(specification) == first
    assert len(server.views) == 2 and [name for _, name in server.saved] == [*server.views] * 2
    for key, view in server.views.items():
        assert without_ids(json.loads(view["spec"])) == without_ids(before[key])


def test_it_finds_its_own_among_many(server, specification):
    server.page = 1
    for name in ("Another", "CDSA dashboard of yesterday"):
        for kind in ("project-view", "runs"):
            server.upsert(
                {"name": f"nw-{name[:2]}-v", "displayName": name, "description": "", "type": kind, "spec": "{}"}
                | {"projectName": "cdsa", "entityName": "me"}
            )
    publish(specification)
    publish(specification)
    assert len(server.views) == 6


def test_sections_of_others_stay_and_ours_that_became_empty_go(server, specification):
    publish(specification)
    (view,) = server.of("project-view")
    spec = json.loads(view["spec"])
    bank = spec["section"]["panelBankConfig"]["sections"]
    bank.append({**bank[0], "name": "Mine", "panels": []})
    bank.append({**bank[0], "name": PANELS["pictures"][0], "panels": []})
    view["spec"] = json.dumps(spec)
    fewer = type(specification)("cdsa", specification.name, specification.sections[:2])
    publish(fewer)
    assert [section["name"] for section in sections(server)] == [*(one.name for one in fewer.sections), "Mine"]


def test_a_kept_specification_is_published_alike(server, specification, tmp_path):
    publish(specification)
    before = {key: json.loads(view["spec"]) for key, view in server.views.items()}
    publish(read_specification(write_specification(specification, tmp_path / "specification.json")))
    for key, view in server.views.items():
        assert without_ids(json.loads(view["spec"])) == without_ids(before[key])


def test_a_team_may_own_it(server, specification):
    publish(specification, "team")
    assert {entity for entity, _ in server.saved} == {"team"}


def test_a_project_without_runs_is_told_with_the_remedy(server, specification):
    server.projects = {"other"}
    with pytest.raises(InputError, match=r"W&B has no project me/cdsa\. Its runs make it.*wandb sync"):
        publish(specification)
    assert not server.views


def test_what_the_libraries_raise_becomes_a_sentence(monkeypatch, specification):
    def refuse():
        raise Exception("permission denied")  # noqa: TRY002 - what the library does

    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(InputError, match=r"W&B cannot be used: permission denied.*'--wandb offline'"):
        publish(specification)


def test_without_the_extra_its_installation_is_named(monkeypatch, specification):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(InputError, match=r"pip install 'cdsa-lightning\[dashboard\]'"):
        publish(specification)
