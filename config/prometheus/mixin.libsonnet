// The alerts, rules and dashboard as a mixin: `import 'mixin.libsonnet'` adds them to what you have. The files beside it are the
// source; nothing is written twice.
{
  local runbooksHome = 'https://github.com/llama-warden/llama-warden/blob/main/docs/runbooks',

  _config+:: {
    // Where the pages of docs/runbooks are read.
    runbooks: runbooksHome,
  },

  local homed(rule) =
    if std.objectHas(rule, 'annotations')
    then rule { annotations+: { runbook_url: std.strReplace(super.runbook_url, runbooksHome, $._config.runbooks) } }
    else rule,
  local homedGroups(file) = { groups: [group { rules: std.map(homed, super.rules) } for group in file.groups] },

  prometheusAlerts+:: homedGroups(std.parseYaml(importstr 'alerts.yaml')),
  prometheusRules+:: homedGroups(std.parseYaml(importstr 'rules.yaml')),
  grafanaDashboards+:: { 'llama-warden.json': import '../grafana/llama-warden.json' },
}
