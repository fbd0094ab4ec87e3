"""What the dashboards are made of: panels, rows of panels, and Grafana's JSON for them."""

import dataclasses

DATASOURCE = {"type": "prometheus", "uid": "baton-prometheus"}  # provisioning/datasources
SCHEMA_VERSION = 39  # Grafana 11
GRID_COLUMNS = 24


@dataclasses.dataclass
class Panel:
    """One panel. `queries` is a list of (PromQL, legend); its text may use $__rate_interval and the
    variables of its dashboard."""

    title: str
    queries: list
    unit: str = "short"
    description: str = ""
    kind: str = "timeseries"  # or "stat"
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    thresholds: list = dataclasses.field(default_factory=list)  # [(from value, colour)]
    dashed: str = ""  # regular expression of the series that are limits, not measurements

    def to_json(self, panel_id, position):
        steps = [{"color": "green", "value": None}]
        steps += [{"color": colour, "value": value} for value, colour in self.thresholds]
        defaults = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": steps},
                    "color": {"mode": "thresholds" if self.kind == "stat" else "palette-classic"}}
        if self.minimum is not None:
            defaults["min"] = self.minimum
        if self.maximum is not None:
            defaults["max"] = self.maximum
        overrides = []
        if self.kind == "timeseries":
            defaults["custom"] = {
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": 25 if self.stacked else 5,
                "showPoints": "never", "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if self.thresholds else "off"}}
            options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                       "tooltip": {"mode": "multi", "sort": "desc"}}
            if self.dashed:
                overrides.append({
                    "matcher": {"id": "byRegexp", "options": self.dashed},
                    "properties": [
                        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                        {"id": "custom.fillOpacity", "value": 0}]})
        else:
            options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                       "colorMode": "value", "graphMode": "area", "textMode": "auto"}
        return {"id": panel_id, "type": self.kind, "title": self.title,
                "description": self.description, "datasource": DATASOURCE, "gridPos": position,
                "fieldConfig": {"defaults": defaults, "overrides": overrides}, "options": options,
                "targets": [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expr,
                             "legendFormat": legend, "range": True}
                            for i, (expr, legend) in enumerate(self.queries)]}


@dataclasses.dataclass
class Note:
    """A text that readers of the board need to know."""

    title: str
    text: str  # Markdown

    def to_json(self, panel_id, position):
        return {"id": panel_id, "type": "text", "title": self.title, "gridPos": position,
                "fieldConfig": {"defaults": {}, "overrides": []},
                "options": {"mode": "markdown", "content": self.text}}


@dataclasses.dataclass
class Row:
    """Panels or notes side by side under a heading; each gets the same width."""

    title: str
    panels: list
    height: int = 8


@dataclasses.dataclass
class Dashboard:
    uid: str
    title: str
    description: str
    rows: list
    variables: dict = dataclasses.field(default_factory=dict)  # name -> PromQL label_values(…)

    def to_json(self):
        panels, y, next_id = [], 0, 1
        for row in self.rows:
            panels.append({"id": next_id, "type": "row", "title": row.title, "collapsed": False,
                           "panels": [], "gridPos": {"h": 1, "w": GRID_COLUMNS, "x": 0, "y": y}})
            y, next_id = y + 1, next_id + 1
            width = GRID_COLUMNS // len(row.panels)
            for i, panel in enumerate(row.panels):
                position = {"h": row.height, "w": width, "x": i * width, "y": y}
                panels.append(panel.to_json(next_id, position))
                next_id += 1
            y += row.height
        return {"uid": self.uid, "title": self.title, "description": self.description,
                "tags": ["baton"], "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": True,
                "graphTooltip": 1, "timezone": "browser", "refresh": "10s",
                "time": {"from": "now-1h", "to": "now"}, "annotations": {"list": []},
                "links": [{"type": "dashboards", "tags": ["baton"], "title": "Baton", "url": "",
                           "icon": "dashboard", "tooltip": "", "asDropdown": False,
                           "targetBlank": False, "includeVars": False, "keepTime": True}],
                "templating": {"list": [self._variable(*item) for item in self.variables.items()]},
                "panels": panels}

    @staticmethod
    def _variable(name, query):
        return {"name": name, "label": name, "type": "query", "datasource": DATASOURCE,
                "query": {"query": query, "refId": name}, "definition": query, "refresh": 2,
                "multi": True, "includeAll": True, "allValue": ".+", "sort": 1,
                "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}


def quantiles(metric, labels="", by="", legend=""):
    """Queries for the 50th, 90th and 99th percentile of a histogram. `by`: labels to keep."""
    keep = f"{by}, le" if by else "le"
    return [(f"histogram_quantile({q}, sum by ({keep}) "
             f"(rate({metric}_bucket{{{labels}}}[$__rate_interval])))",
             f"p{q * 100:.0f} {legend}".strip()) for q in (0.5, 0.9, 0.99)]


def rate(metric, by="", labels=""):
    """The rate of a counter, summed over all labels but those in `by`."""
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}{{{labels}}}[$__rate_interval]))"
