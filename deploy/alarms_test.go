package deploy_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dixie/internal/logtext"
	"dixie/internal/pgtest"
)

// alarms are those that there have to be, by their names and metrics.
var alarms = map[string]string{
	"unhealthy-hosts": "UnHealthyHostCount", "no-healthy-hosts": "HealthyHostCount", "latency": "TargetResponseTime",
	"breaker-open": "BreakerOpened", "denied-spike": "DeniedRequests", "projector-lag": "ProjectorLag",
}

// TestTerraformAlarms: they are there, tell somebody, watch a metric that exists, and
// are explained.
func TestTerraformAlarms(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	guide := readFile(t, "../docs/operations.md")
	patterns := tf.patterns()
	for _, block := range tf.all("resource", "aws_cloudwatch_metric_alarm") {
		name := strings.TrimPrefix(tf.text(block, "alarm_name"), "dixie-")
		metric := tf.text(block, "metric_name")
		if alarms[name] != metric {
			t.Errorf("alarm %s watches %s, want %q", name, metric, alarms[name])
		}
		if namespace := tf.text(block, "namespace"); namespace == "AWS/ApplicationELB" == (patterns[metric] != "") {
			t.Errorf("alarm %s watches %s of %s, which does not exist", name, metric, namespace)
		}
		if actions := tf.texts(block, "alarm_actions"); !slices.Equal(actions, []string{"arn:aws:sns:us-east-1:1:oncall"}) {
			t.Errorf("alarm %s tells %v", name, actions)
		}
		if tf.text(block, "alarm_description") == "" || !strings.Contains(guide, "\n#### "+name+"\n") {
			t.Errorf("alarm %s is not explained: docs/operations.md must have a heading of this name", name)
		}
	}
	if n := len(tf.all("resource", "aws_cloudwatch_metric_alarm")); n != len(alarms) {
		t.Errorf("there are %d alarms, want %d", n, len(alarms))
	}
}

// patterns are those of log lines, by the metrics that they count.
func (tf *terraform) patterns() map[string]string {
	tf.t.Helper()
	filter := tf.one("resource", "aws_cloudwatch_log_metric_filter", "dixie")
	patterns := map[string]string{}
	for it := tf.attribute(filter, "for_each").ElementIterator(); it.Next(); {
		name, pattern := it.Element()
		patterns[asText(name)] = asText(pattern)
	}
	return patterns
}

var condition = regexp.MustCompile(`\$\.(\w+) = "([^"]*)"`)

// counts reports whether CloudWatch would count a line: all conditions of a pattern
// are equalities that are joined by &&.
func counts(t *testing.T, pattern, line string) bool {
	t.Helper()
	if rest := condition.ReplaceAllString(pattern, ""); strings.Trim(rest, "{}()& ") != "" {
		t.Fatalf("the tests do not understand the pattern %s", pattern)
	}
	var members map[string]any
	if json.Unmarshal([]byte(line), &members) != nil {
		return false
	}
	for _, match := range condition.FindAllStringSubmatch(pattern, -1) {
		if members[match[1]] != match[2] {
			return false
		}
	}
	return true
}

// TestAlarmsCountLines: a server in trouble writes the lines that alarms count, each
// in its own trouble, and one that is well writes none.
func TestAlarmsCountLines(t *testing.T) {
	t.Parallel()
	dir, database := t.TempDir(), pgtest.EmptyURL(t)
	const wallet = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	write(t, filepath.Join(dir, "allowlist.json"), `{"version":1,"wallets":["`+wallet+`"],"apiKeys":[]}`)
	write(t, filepath.Join(dir, "events.ndjson"), `{"nft_id":"bear-1","event":{"type":"quality_signal","event_id":"00000000-0000-4000-8000-000000000001","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-11-01T12:00:00Z","score":0.9}}`+"\n")
	env := []string{
		"DATABASE_URL=" + database, "DIXIE_ALLOWLIST_PATH=" + filepath.Join(dir, "allowlist.json"), "DIXIE_PORT=0", "DIXIE_MAX_LAG=1ms",
		"DIXIE_JWT_PRIVATE_KEY=a secret of thirty-two characters", "FINN_URL=http://127.0.0.1:1", "FINN_TIMEOUT=1s",
	}
	run(t, env, "migrate", "up")
	run(t, append(env, "DIXIE_SCORING_PSEUDO_COUNT=4"), "rebuild") // so that what follows is not projected
	token := strings.TrimSpace(run(t, env, "token", "--wallet", wallet))
	c := &contained{cmd: exec.Command(dixie(t), "serve"), log: &logtext.Log{}, done: make(chan error, 1)}
	c.cmd.Env, c.cmd.Stderr = env, c.log
	if err := c.run(t); err != nil {
		t.Fatal(err)
	}
	url := "http://127.0.0.1:" + c.port(t)

	balancer := readTerraform(t, deployment())
	probe := balancer.text(balancer.inner(balancer.one("resource", "aws_lb_target_group", "dixie"), "health_check"), "path")
	var troubles []string
	for _, trouble := range []struct {
		metric string
		make   func()
	}{
		{"none", func() { ask(t, url+probe, "", http.StatusOK) }},
		{"DeniedRequests", func() { ask(t, url+"/api/reputation/bear-1", "", http.StatusUnauthorized) }},
		{"ProjectorLag", func() {
			run(t, env, "import", filepath.Join(dir, "events.ndjson"))
			ask(t, url+probe, "", http.StatusOK)
		}},
		{"BreakerOpened", func() {
			for range 6 {
				ask(t, url+"/api/memory/bear-1", token, http.StatusServiceUnavailable)
			}
		}},
	} {
		trouble.make()
		if trouble.metric != "none" {
			troubles = append(troubles, trouble.metric)
		}
		c.wantCounted(t, balancer.patterns(), troubles)
	}
}

// wantCounted waits until exactly these metrics count lines of the log. A line may
// be written after the answer that it tells of.
func (c *contained) wantCounted(t *testing.T, patterns map[string]string, metrics []string) {
	t.Helper()
	metrics = slices.Sorted(slices.Values(metrics))
	var counted []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		counted = nil
		for name, pattern := range patterns {
			if slices.ContainsFunc(strings.Split(c.log.String(), "\n"), func(line string) bool { return counts(t, pattern, line) }) {
				counted = append(counted, name)
			}
		}
		slices.Sort(counted)
		if slices.Equal(counted, metrics) {
			return
		}
	}
	t.Fatalf("counted are %v, want %v, of\n%s", counted, metrics, c.log)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a command of dixie.
func run(t *testing.T, env []string, args ...string) (stdout string) {
	t.Helper()
	cmd := exec.Command(dixie(t), args...)
	var errs strings.Builder
	cmd.Env, cmd.Stderr = env, &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dixie %v: %v\n%s", args, err, &errs)
	}
	return string(out)
}

// ask wants a status.
func ask(t *testing.T, url, token string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		t.Errorf("%s: %s, want %d", url, response.Status, status)
	}
}
