package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"dixie/internal/pgtest"
)

const (
	alertsFile    = "../../deploy/prometheus/alerts.yml"
	alertTests    = "../../deploy/prometheus/alerts_test.yml"
	dashboardFile = "../../deploy/grafana/dixie.json"
	operations    = "../../docs/operations.md"
)

// series are the labels of the series of a scrape, by name of the metric.
type series map[string][]map[string]string

// scraped are the series of a real server, on PostgreSQL, that has had traffic.
func scraped(t *testing.T) series {
	t.Helper()
	s := serve(t, []string{"DATABASE_URL=" + pgtest.EmptyURL(t)})
	s.visit()
	status, text := fetch(t, s.url+"/metrics")
	if status != 200 {
		t.Fatalf("status %d: %s", status, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	found := series{}
	for name, family := range families {
		for _, metric := range family.Metric {
			found.add(name, family.GetType(), metric)
		}
	}
	return found
}

func (s series) add(name string, kind dto.MetricType, metric *dto.Metric) {
	labels := map[string]string{}
	for _, pair := range metric.Label {
		labels[pair.GetName()] = pair.GetValue()
	}
	s[name] = append(s[name], labels)
	if kind != dto.MetricType_HISTOGRAM {
		return
	}
	s[name+"_sum"] = append(s[name+"_sum"], labels)
	s[name+"_count"] = append(s[name+"_count"], labels)
	bucket := map[string]string{"le": "+Inf"}
	for name, value := range labels {
		bucket[name] = value
	}
	s[name+"_bucket"] = append(s[name+"_bucket"], bucket)
}

// has reports whether a label of a metric has a value in some series.
func (s series) has(metric, label, value string) bool {
	return slices.ContainsFunc(s[metric], func(labels map[string]string) bool { return labels[label] == value })
}

// scrapeLabels are those that Prometheus adds.
var scrapeLabels = []string{"job", "instance"}

// labelled reports whether a metric has a label.
func (s series) labelled(metric, label string) bool {
	return slices.Contains(scrapeLabels, label) || slices.ContainsFunc(s[metric], func(labels map[string]string) bool {
		_, ok := labels[label]
		return ok
	})
}

// expression is PromQL and where it stands.
type expression struct {
	where, text string
	refers      []string // labels that a title or legend wants of the result
}

// check parses an expression and compares all that it names with the series. The
// parser knows a dialect that is larger than PromQL, so what only that has is
// refused here: other functions, and windows that are left out.
func (e expression) check(t *testing.T, known series) {
	t.Helper()
	parsed, err := metricsql.Parse(e.text)
	if err != nil {
		t.Errorf("%s: %v", e.where, err)
		return
	}
	var metrics, kept []string
	aggregated := false
	metricsql.VisitAll(parsed, func(part metricsql.Expr) {
		switch part := part.(type) {
		case *metricsql.MetricExpr:
			metrics = append(metrics, e.checkSelector(t, known, part)...)
		case *metricsql.FuncExpr:
			e.checkFunction(t, part)
		case *metricsql.AggrFuncExpr:
			aggregated = true
			kept = append(kept, part.Modifier.Args...)
		}
	})
	for _, label := range kept {
		if !slices.ContainsFunc(metrics, func(metric string) bool { return known.labelled(metric, label) }) {
			t.Errorf("%s: none of %v has the label %s", e.where, metrics, label)
		}
	}
	for _, label := range e.refers {
		has := slices.Contains(kept, label)
		if !aggregated {
			has = slices.ContainsFunc(metrics, func(metric string) bool { return known.labelled(metric, label) })
		}
		if !has {
			t.Errorf("%s: its text names the label %s, which the result does not have", e.where, label)
		}
	}
}

// checkSelector compares the names, labels and values of a selector with what
// there is, and returns the names.
func (e expression) checkSelector(t *testing.T, known series, selector *metricsql.MetricExpr) (metrics []string) {
	t.Helper()
	for _, filters := range selector.LabelFilterss {
		metric := filters[0].Value
		if filters[0].Label != "__name__" || len(known[metric]) == 0 {
			t.Errorf("%s: there is no metric %q", e.where, metric)
			continue
		}
		metrics = append(metrics, metric)
		for _, filter := range filters[1:] {
			if !known.labelled(metric, filter.Label) {
				t.Errorf("%s: %s has no label %s", e.where, metric, filter.Label)
			}
			// A server that is well has no failures, so codes need not be there.
			if slices.Contains(scrapeLabels, filter.Label) || filter.Label == "code" {
				continue
			}
			for value := range strings.SplitSeq(filter.Value, "|") {
				if !known.has(metric, filter.Label, value) && value != "publisher" { // which is there when it publishes
					t.Errorf("%s: no series of %s has %s=%q", e.where, metric, filter.Label, value)
				}
			}
		}
	}
	return metrics
}

// functions are those of PromQL that are used; true for those that want a window.
var functions = map[string]bool{
	"rate": true, "increase": true, "delta": true, "deriv": true, "min_over_time": true,
	"histogram_quantile": false, "absent": false, "vector": false,
}

func (e expression) checkFunction(t *testing.T, f *metricsql.FuncExpr) {
	t.Helper()
	windowed, ok := functions[f.Name]
	if !ok {
		t.Errorf("%s: %s is no function of PromQL, or new here", e.where, f.Name)
	}
	rollup, ok := f.Args[0].(*metricsql.RollupExpr)
	if has := ok && rollup.Window != nil; has != windowed {
		t.Errorf("%s: %s has a window: %t, want %t", e.where, f.Name, has, windowed)
	}
}

var (
	alertLabel  = regexp.MustCompile(`\$labels\.(\w+)`)
	legendLabel = regexp.MustCompile(`{{(\w+)}}`)
)

func refersTo(pattern *regexp.Regexp, text string) (labels []string) {
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		labels = append(labels, match[1])
	}
	return labels
}

// alertRules are the rules of the alerts file, strictly read.
type alertRules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      struct{ Severity string }
			Annotations struct{ Summary, Runbook string }
		}
	}
}

func readAlerts(t *testing.T) (rules alertRules) {
	t.Helper()
	file, err := os.Open(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	return rules
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// alertExpressions are those of all alerts, which have a text and a runbook each.
func alertExpressions(t *testing.T) (all []expression) {
	t.Helper()
	guide, tried := read(t, operations), read(t, alertTests)
	for _, group := range readAlerts(t).Groups {
		for _, rule := range group.Rules {
			e := expression{where: "alert " + rule.Alert, text: rule.Expr, refers: refersTo(alertLabel, rule.Annotations.Summary)}
			all = append(all, e)
			if rule.Annotations.Summary == "" || rule.Labels.Severity != "critical" && rule.Labels.Severity != "warning" {
				t.Errorf("%s: summary %q, severity %q", e.where, rule.Annotations.Summary, rule.Labels.Severity)
			}
			if !strings.Contains(tried, `alertname="`+rule.Alert+`"`) {
				t.Errorf("%s: %s does not try it", e.where, alertTests)
			}
			if rule.Annotations.Runbook != "docs/operations.md#"+strings.ToLower(rule.Alert) || !strings.Contains(guide, "\n#### "+rule.Alert+"\n") {
				t.Errorf("%s: runbook %q, and docs/operations.md must have a heading of this name", e.where, rule.Annotations.Runbook)
			}
		}
	}
	return all
}

type dashboard struct {
	UID    string
	Title  string
	Panels []struct {
		ID      int
		Title   string
		Type    string
		GridPos struct{ H, W, X, Y int }
		Targets []struct {
			RefID        string `json:"refId"`
			Expr         string
			LegendFormat string
			Datasource   struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

// dashboardExpressions are those of all panels, with variables as Grafana would
// put them in. Panels do not overlap, and no id comes twice.
func dashboardExpressions(t *testing.T) (all []expression) {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, panel := range d.Panels {
		where := fmt.Sprintf("panel %q", panel.Title)
		if ids[panel.ID] {
			t.Errorf("%s: the id %d comes twice", where, panel.ID)
		}
		ids[panel.ID] = true
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if other := cells[cell]; other != "" || cell[0] >= 24 {
					t.Errorf("%s overlaps %q or the edge", where, other)
				}
				cells[cell] = panel.Title
			}
		}
		if (panel.Type == "row") != (len(panel.Targets) == 0) {
			t.Errorf("%s has %d queries", where, len(panel.Targets))
		}
		for _, target := range panel.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: data source %q is not the one that is chosen above", where, target.Datasource.UID)
			}
			all = append(all, expression{where: where, text: variables.Replace(target.Expr), refers: refersTo(legendLabel, target.LegendFormat)})
		}
	}
	return all
}

// TestDeployedExpressions: every metric, label and value that alerts and dashboard
// name exists in a scrape of a real server that has had traffic, and every metric
// of ours that is scraped is in the operators' guide.
func TestDeployedExpressions(t *testing.T) {
	t.Parallel()
	known := scraped(t)
	alerts, panels := alertExpressions(t), dashboardExpressions(t)
	if len(alerts) < 10 || len(panels) < 20 {
		t.Errorf("%d alerts, %d queries of panels: they were not read", len(alerts), len(panels))
	}
	for _, e := range append(alerts, panels...) {
		e.check(t, known)
	}
	checkGuide(t, known)
}

// checkGuide compares the table of metrics in the operators' guide with a scrape.
func checkGuide(t *testing.T, known series) {
	t.Helper()
	guide := read(t, operations)
	part := regexp.MustCompile(`_(sum|count|bucket)$`)
	for name := range known {
		if part.MatchString(name) && len(known[part.ReplaceAllString(name, "")]) > 0 {
			continue // of a histogram
		}
		if strings.HasPrefix(name, "dixie_") && !strings.Contains(guide, "| `"+name+"`") {
			t.Errorf("docs/operations.md does not explain %s", name)
		}
	}
	for _, match := range regexp.MustCompile("\\| `(dixie_\\w+)`").FindAllStringSubmatch(guide, -1) {
		if len(known[match[1]]) == 0 {
			t.Errorf("docs/operations.md explains %s, which is not there", match[1])
		}
	}
}
