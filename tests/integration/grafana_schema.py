"""What Grafana asks of the files in deploy/grafana, as JSON schemas: the parts that we use, strictly.

After kinds/dashboard/dashboard_kind.cue of grafana/grafana and its documentation of provisioning.
"""

TEXT = {"type": "string", "minLength": 1}
DATASOURCE = {"type": "object", "required": ["type", "uid"],
              "properties": {"type": {"const": "prometheus"}, "uid": {"const": "baton-prometheus"}}}

GRID = {"type": "object", "required": ["h", "w", "x", "y"], "additionalProperties": False,
        "properties": {"h": {"type": "integer", "minimum": 1, "maximum": 30},
                       "w": {"type": "integer", "minimum": 1, "maximum": 24},
                       "x": {"type": "integer", "minimum": 0, "maximum": 23},
                       "y": {"type": "integer", "minimum": 0}}}

TARGET = {"type": "object", "required": ["refId", "datasource", "expr", "legendFormat"],
          "properties": {"refId": {"type": "string", "pattern": "^[A-Z]$"}, "datasource": DATASOURCE,
                         "expr": TEXT, "legendFormat": TEXT}}

ROW = {"type": "object", "required": ["id", "type", "title", "gridPos", "collapsed", "panels"],
       "properties": {"type": {"const": "row"}, "title": TEXT, "gridPos": GRID,
                      "panels": {"type": "array", "maxItems": 0}}}

NOTE = {"type": "object", "required": ["id", "type", "gridPos", "fieldConfig", "options"],
        "properties": {"type": {"const": "text"}, "gridPos": GRID,
                       "options": {"type": "object", "required": ["mode", "content"],
                                   "properties": {"mode": {"const": "markdown"}, "content": TEXT}}}}

# The first step begins at minus infinity, which JSON writes as null.
THRESHOLDS = {"type": "object", "required": ["mode", "steps"],
              "properties": {"mode": {"const": "absolute"},
                             "steps": {"type": "array", "minItems": 1, "prefixItems": [
                                 {"properties": {"value": {"type": "null"}}}],
                                 "items": {"properties": {"value": {"type": "number"}},
                                           "required": ["color", "value"]}}}}

DEFAULTS = {"type": "object", "required": ["unit", "color", "thresholds"],
            "properties": {"unit": TEXT, "min": {"type": "number"}, "max": {"type": "number"},
                           "color": {"type": "object", "required": ["mode"], "properties": {
                               "mode": {"enum": ["thresholds", "palette-classic"]}}},
                           "thresholds": THRESHOLDS, "custom": {"type": "object"}},
            "additionalProperties": False}

OVERRIDE = {"type": "object", "required": ["matcher", "properties"], "additionalProperties": False,
            "properties": {"matcher": {"type": "object", "required": ["id", "options"]},
                           "properties": {"type": "array", "items": {
                               "type": "object", "required": ["id", "value"]}}}}

PANEL = {"type": "object",
         "required": ["id", "type", "title", "datasource", "gridPos", "targets", "fieldConfig",
                      "options"],
         "properties": {"type": {"enum": ["timeseries", "stat"]}, "title": TEXT,
                        "datasource": DATASOURCE, "gridPos": GRID,
                        "targets": {"type": "array", "minItems": 1, "maxItems": 26, "items": TARGET},
                        "fieldConfig": {
                            "type": "object", "required": ["defaults", "overrides"],
                            "properties": {"defaults": DEFAULTS,
                                           "overrides": {"type": "array", "items": OVERRIDE}}}}}

LINK = {"type": "object",
        "required": ["title", "type", "icon", "tooltip", "url", "tags", "asDropdown", "targetBlank",
                     "includeVars", "keepTime"],
        "properties": {"type": {"const": "dashboards"}}}

VARIABLE = {"type": "object",
            "required": ["name", "type", "datasource", "query", "refresh", "includeAll", "allValue"],
            "properties": {"name": {"type": "string", "pattern": "^[a-z_]+$"},
                           "type": {"const": "query"}, "datasource": DATASOURCE,
                           "query": {"type": "object", "required": ["query", "refId"]},
                           "refresh": {"enum": [1, 2]}, "sort": {"enum": list(range(9))}}}

DASHBOARD = {"type": "object",
             "required": ["uid", "title", "schemaVersion", "version", "panels", "templating", "time",
                          "tags", "refresh"],
             "properties": {"uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
                            "title": TEXT, "schemaVersion": {"type": "integer", "minimum": 36},
                            "version": {"type": "integer"},
                            "tags": {"type": "array", "items": TEXT},
                            "links": {"type": "array", "items": LINK},
                            "panels": {"type": "array", "minItems": 2,
                                       "items": {"oneOf": [ROW, NOTE, PANEL]}},
                            "templating": {"type": "object", "required": ["list"],
                                           "properties": {"list": {"type": "array",
                                                                   "items": VARIABLE}}},
                            "time": {"type": "object", "required": ["from", "to"]}}}

DATASOURCES = {"type": "object", "required": ["apiVersion", "datasources"],
               "additionalProperties": False,
               "properties": {
                   "apiVersion": {"const": 1},
                   "datasources": {"type": "array", "minItems": 1, "items": {
                       "type": "object", "required": ["name", "uid", "type", "access", "url"],
                       "properties": {"name": TEXT, "uid": TEXT, "type": {"const": "prometheus"},
                                      "access": {"const": "proxy"},
                                      "url": {"type": "string", "pattern": "^http://"},
                                      "isDefault": {"type": "boolean"},
                                      "editable": {"type": "boolean"},
                                      "jsonData": {"type": "object"}},
                       "additionalProperties": False}}}}

PROVIDERS = {"type": "object", "required": ["apiVersion", "providers"],
             "additionalProperties": False,
             "properties": {
                 "apiVersion": {"const": 1},
                 "providers": {"type": "array", "minItems": 1, "items": {
                     "type": "object", "required": ["name", "type", "options"],
                     "properties": {"name": TEXT, "folder": TEXT, "type": {"const": "file"},
                                    "allowUiUpdates": {"type": "boolean"},
                                    "updateIntervalSeconds": {"type": "integer", "minimum": 10},
                                    "options": {"type": "object", "required": ["path"],
                                                "properties": {"path": {"type": "string",
                                                                        "pattern": "^/"}},
                                                "additionalProperties": False}},
                     "additionalProperties": False}}}}
