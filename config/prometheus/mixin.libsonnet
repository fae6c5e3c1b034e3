// The alerts, rules and dashboard as a mixin: `import 'mixin.libsonnet'` adds them to what you have. The files beside it are the
// source; nothing is written twice.
{
  _config+:: {
    // Where the pages of docs/runbooks are published: then each alert has a `runbook_url` as well.
    runbooks: null,
  },

  local homed(rule) =
    if $._config.runbooks != null && std.objectHas(rule, 'annotations')
    then rule { annotations+: { runbook_url: std.strReplace(super.runbook, 'docs/runbooks', $._config.runbooks) } }
    else rule,
  local homedGroups(file) = { groups: [group { rules: std.map(homed, super.rules) } for group in file.groups] },

  prometheusAlerts+:: homedGroups(std.parseYaml(importstr 'alerts.yaml')),
  prometheusRules+:: homedGroups(std.parseYaml(importstr 'rules.yaml')),
  grafanaDashboards+:: { 'llama-warden.json': import '../grafana/llama-warden.json' },
}
