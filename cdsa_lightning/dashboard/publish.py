"""A specification in W&B: a saved workspace and a report, found by name and updated, or made where there are none.

A workspace keeps the sections that others added to it, and what its users chose to see; a report is written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdsa_lightning.dashboard.panels import PANELS
from cdsa_lightning.dashboard.specification import STEP, Panel, Section, Specification
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    import wandb

__all__ = ["publish"]

# Neither wandb nor wandb_workspaces lists saved workspaces; the query is the one that wandb lists reports with.
_VIEWS = """
    query Views($entity: String!, $project: String!, $kind: String, $after: String) {
        project(name: $project, entityName: $entity) {
            allViews(viewType: $kind, first: 100, after: $after) {
                edges { node { id name displayName } cursor }
                pageInfo { endCursor hasNextPage }
            }
        }
    }
"""
_KEEP = "What was written here stays; '--wandb offline' leaves W&B alone."


def publish(specification: Specification, entity: str | None = None) -> list[str]:
    """Make or update the workspace and the report.

    Args:
        specification: What they show.
        entity: The account or team; by default that of the key.

    Returns:
        Their addresses.

    Raises:
        InputError: wandb-workspaces is not installed, there is no such project, or W&B cannot be reached or refuses.
    """
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError:
        raise InputError(
            f"Publishing needs wandb-workspaces: pip install 'cdsa-lightning[dashboard]'. {_KEEP}"
        ) from None
    import wandb

    try:
        api = wandb.Api()
        owner = entity or api.default_entity
        return [_workspace(specification, owner, api), _report(specification, owner, api)]
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - both libraries raise whatever they meet, Exception itself included
        raise InputError(f"W&B cannot be used: {' '.join(str(error).split())[:300]} {_KEEP}") from error


def _workspace(specification: Specification, entity: str, api: wandb.Api) -> str:
    import wandb_workspaces.workspaces as ws

    workspace = ws.Workspace(entity=entity, project=specification.project, name=specification.name)
    found = _find(specification, "project-view", entity, api)
    if found:
        workspace._internal_name = found["name"]  # what its url is made of
        workspace = ws.Workspace.from_url(workspace.url)
    ours = {title for title, _ in PANELS.values()}
    others = [section for section in workspace.sections if section.name not in ours]
    made = [
        ws.Section(name=section.name, panels=[_panel(panel) for panel in section.panels], is_open=True)
        for section in specification.sections
    ]
    workspace.sections = made + others
    return str(workspace.save().url)


def _report(specification: Specification, entity: str, api: wandb.Api) -> str:
    import wandb_workspaces.reports.v2 as wr

    found = _find(specification, "runs", entity, api)
    blocks: list[Any] = [wr.TableOfContents()]
    for section in specification.sections:
        blocks += [wr.H2(section.name), wr.P(section.about), _grid(section, specification.project, entity)]
    report = wr.Report(entity=entity, project=specification.project, title=specification.name, blocks=blocks)
    report.width = "fluid"
    if found:
        report.id = found["id"]
    return str(report.save().url)


def _grid(section: Section, project: str, entity: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    panels = [_panel(panel) for panel in section.panels]
    for number, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (number % 2), y=8 * (number // 2), w=12, h=8)
    return wr.PanelGrid(runsets=[wr.Runset(entity=entity, project=project)], panels=panels)


def _panel(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as wr

    if panel.kind == "lines":
        return wr.LinePlot(title=panel.title, x=STEP, y=list(panel.keys))
    if panel.kind == "bars":
        return wr.BarPlot(title=panel.title, metrics=list(panel.keys))
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=panel.keys, num_columns=2)
    columns = [wr.Config(key) for key in panel.config] + [wr.SummaryMetric(key) for key in panel.keys]
    return wr.ParallelCoordinatesPlot(
        title=panel.title, columns=[wr.ParallelCoordinatesPlotColumn(metric=column) for column in columns]
    )


def _find(specification: Specification, kind: str, entity: str, api: wandb.Api) -> dict[str, str] | None:
    """The view of that kind and name; the oldest where there are several.

    Raises:
        InputError: there is no such project.
    """
    from wandb_workspaces._graphql import execute_graphql

    after, found = None, []
    while True:
        variables = {"entity": entity, "project": specification.project, "kind": kind, "after": after}
        project = execute_graphql(api, _VIEWS, variables).get("project")
        if project is None:
            raise InputError(
                f"W&B has no project {entity}/{specification.project}. Its runs make it: fit and evaluate with "
                f"--wandb online, or send those that are here with 'wandb sync'. {_KEEP}"
            )
        views = project["allViews"]
        found += [edge["node"] for edge in views["edges"] if edge["node"]["displayName"] == specification.name]
        if not views["pageInfo"]["hasNextPage"]:
            return min(found, key=lambda view: view["id"]) if found else None
        after = views["pageInfo"]["endCursor"]
