package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

func words(texts ...string) cty.Value {
	values := make([]cty.Value, len(texts))
	for i, text := range texts {
		values[i] = cty.StringVal(text)
	}
	return cty.TupleVal(values)
}

// deployment are values of all variables that have no default, and of those whose
// settings are not set by default.
func deployment() map[string]cty.Value {
	return map[string]cty.Value{
		"cluster_name": cty.StringVal("main"), "vpc_id": cty.StringVal("vpc-1"), "subnet_ids": words("subnet-1", "subnet-2"),
		"listener_arn":                    cty.StringVal("arn:aws:elasticloadbalancing:us-east-1:1:listener/app/main/1/2"),
		"load_balancer_security_group_id": cty.StringVal("sg-balancer"), "host_names": words("dixie.example"),
		"image":              cty.StringVal("1.dkr.ecr.us-east-1.amazonaws.com/dixie:v1.2.3"),
		"ecr_repository_arn": cty.StringVal("arn:aws:ecr:us-east-1:1:repository/dixie"),
		"finn_url":           cty.StringVal("http://finn.internal:3000"), "cors_origins": words("https://dixie.example", "https://b.example"),
		"allowlist_file_system_id": cty.StringVal("fs-1"), "allowlist_access_point_id": cty.StringVal("fsap-1"),
		"allowlist_security_group_id": cty.StringVal("sg-files"), "alarm_topic_arns": words("arn:aws:sns:us-east-1:1:oncall"),

		"redis_url": cty.StringVal("redis://redis.internal:6379"), "nats_url": cty.StringVal("nats://nats.internal:4222"),
		"rate_limit_rpm": cty.NumberIntVal(300), "siwe_domains": words("dixie.example"),
		"jwt_previous_public_keys":     cty.StringVal("kid: a\n" + publicKey),
		"metrics_security_group_id":    cty.StringVal("sg-prometheus"),
		"https_egress_prefix_list_ids": words("pl-1"), "secrets_kms_key_arn": cty.StringVal("arn:aws:kms:us-east-1:1:key/1"),
	}
}

// publicKey is that of RFC 7515, appendix A.3.
const publicKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----`

// TestTerraformFormat: files are as terraform fmt writes them.
func TestTerraformFormat(t *testing.T) {
	t.Parallel()
	for _, name := range readTerraform(t, deployment()).files {
		if text := []byte(readFile(t, name)); !bytes.Equal(text, hclwrite.Format(text)) {
			t.Errorf("run terraform fmt on %s", name)
		}
	}
	if err := exec.Command("terraform", "version").Run(); err != nil {
		t.Logf("left to its library, as there is no terraform here: %v", err)
		return
	}
	if text, err := exec.Command("terraform", "fmt", "-check", "-diff", "terraform").Output(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, text)
	}
}

// TestTerraformValidate: terraform itself finds nothing wrong, where it may fetch its
// provider, of several hundred megabytes.
func TestTerraformValidate(t *testing.T) {
	t.Parallel()
	if os.Getenv("TF_PLUGIN_CACHE_DIR") == "" {
		t.Log("left out: set TF_PLUGIN_CACHE_DIR to a folder for the provider, which terraform downloads")
		return
	}
	dir := t.TempDir()
	for _, name := range readTerraform(t, deployment()).files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(readFile(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-backend=false", "-input=false"}, {"validate"}} {
		if text, err := exec.Command("terraform", append([]string{"-chdir=" + dir}, append(args, "-no-color")...)...).CombinedOutput(); err != nil {
			t.Fatalf("terraform %s: %v\n%s", args[0], err, text)
		}
	}
}

// TestTerraformReferences: all that is named is declared, and every variable and
// local is named.
func TestTerraformReferences(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	declared := map[string]bool{}
	for _, block := range tf.blocks {
		switch block.Type {
		case "variable":
			declared["var."+block.Labels[0]] = false
		case "data":
			declared["data."+strings.Join(block.Labels, ".")] = true
		case "resource":
			declared[strings.Join(block.Labels, ".")] = true
		case "locals":
			for name := range block.Body.Attributes {
				declared["local."+name] = false
			}
		}
	}
	for _, reference := range tf.references() {
		names := namesOf(reference)
		switch {
		case names[0] == "data":
			names = names[:3]
		case names[0] == "var", names[0] == "local", strings.HasPrefix(names[0], "aws_"):
			names = names[:2]
		default:
			continue // of an iteration
		}
		name := strings.Join(names, ".")
		if _, ok := declared[name]; !ok {
			t.Errorf("%s is not declared", name)
		}
		declared[name] = true
	}
	for name, used := range declared {
		if !used {
			t.Errorf("%s is not used", name)
		}
	}
}

// TestTerraformVariables: each is described, has a type, and refuses what cannot be
// meant.
func TestTerraformVariables(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	for _, block := range tf.all("variable") {
		if len(tf.text(block, "description")) < 10 || block.Body.Attributes["type"] == nil {
			t.Errorf("variable %s has no description or no type", block.Labels[0])
		}
		if problem := tf.refuses(block); problem != "" {
			t.Errorf("variable %s refuses a value of the tests: %s", block.Labels[0], problem)
		}
	}
	for name, wrong := range map[string][]cty.Value{
		"region": {cty.StringVal("mars")}, "name": {cty.StringVal("Dixie"), cty.StringVal("a-name-that-is-far-too-long")},
		"cluster_name": {cty.StringVal("")}, "vpc_id": {cty.StringVal("1")}, "subnet_ids": {words("subnet-1"), words("subnet-1", "2")},
		"listener_arn": {cty.StringVal("arn:aws:elasticloadbalancing:us-east-1:1:listener/net/main/1/2")},
		"host_names":   {cty.EmptyTupleVal, words("a", "b", "c", "d", "e", "f")}, "listener_priority": {cty.Zero},
		"trusted_proxies": {words("0.0.0.0/0"), words("10.0.0.0"), words("::/0")},
		"image":           {cty.StringVal("dixie"), cty.StringVal("dixie:latest"), cty.StringVal("dixie@sha256:12")},
		"cpu":             {cty.NumberIntVal(300)}, "memory": {cty.NumberIntVal(700), cty.Zero}, "cpu_architecture": {cty.StringVal("arm")},
		"min_tasks": {cty.Zero, cty.NumberFloatVal(1.5)}, "max_tasks": {cty.Zero}, "log_retention_days": {cty.NumberIntVal(31)},
		"finn_url":                 {cty.StringVal("finn:3000"), cty.StringVal("http://user:pass@finn")},
		"redis_url":                {cty.StringVal("redis://:password@redis:6379")},
		"nats_url":                 {cty.StringVal("nats://user:password@nats:4222")},
		"cors_origins":             {cty.EmptyTupleVal, words("*"), words("https://dixie.example/")},
		"jwt_previous_public_keys": {cty.StringVal("-----BEGIN EC PRIVATE KEY-----")}, "siwe_chains": {cty.EmptyTupleVal},
		"database_pool_size": {cty.Zero, cty.NumberIntVal(101)}, "max_lag": {cty.StringVal("0s"), cty.StringVal("1")},
		"rate_limit_rpm": {cty.NumberIntVal(-1), cty.NumberIntVal(20_000)}, "log_level": {cty.StringVal("error")},
		"https_egress_cidr_blocks": {words("everywhere")}, "https_egress_prefix_list_ids": {words("s3")},
		"alarm_topic_arns": {words("oncall")}, "alarm_latency_seconds": {cty.Zero}, "alarm_denied_per_minute": {cty.Zero},
		"metrics_security_group_id": {cty.StringVal("prometheus")}, "secrets_kms_key_arn": {cty.StringVal("key")},
		"ecr_repository_arn": {cty.StringVal("dixie")}, "load_balancer_security_group_id": {cty.StringVal("balancer")},
		"allowlist_file_system_id": {cty.StringVal("1")}, "allowlist_access_point_id": {cty.StringVal("1")}, "allowlist_security_group_id": {cty.StringVal("1")},
	} {
		for _, value := range wrong {
			values := deployment()
			values[name] = value
			if tf := readTerraform(t, values); tf.refuses(tf.one("variable", name)) == "" {
				t.Errorf("variable %s takes %#v", name, value)
			}
		}
	}
}

// refuses tells why a variable refuses its value, if it does.
func (tf *terraform) refuses(variable *hclsyntax.Block) string {
	tf.t.Helper()
	for _, block := range variable.Body.Blocks {
		if block.Type == "validation" && tf.attribute(block, "condition").False() {
			return tf.text(block, "error_message")
		}
	}
	return ""
}

// container is a container of a task, as ECS reads it.
type container struct {
	Name, Image, User      string
	Command                []string
	Essential              bool
	ReadonlyRootFilesystem bool
	Environment            []struct{ Name, Value string }
	Secrets                []struct{ Name, ValueFrom string }
	PortMappings           []struct{ ContainerPort, HostPort int }
	MountPoints            []struct{ SourceVolume, ContainerPath string }
	HealthCheck            struct{ Command []string }
	LinuxParameters        struct{ Capabilities struct{ Drop []string } }
	StopTimeout            int
	LogConfiguration       struct{ Options map[string]string }
}

func (tf *terraform) container(task string) container {
	tf.t.Helper()
	text := tf.text(tf.one("resource", "aws_ecs_task_definition", task), "container_definitions")
	var containers []container
	if err := json.Unmarshal([]byte(text), &containers); err != nil || len(containers) != 1 {
		tf.t.Fatalf("%v: %s", err, text)
	}
	return containers[0]
}

// secretSources are where the secrets of the specification come from.
var secretSources = map[string]string{
	"DATABASE_URL":          "data.aws_secretsmanager_secret.database_url.arn",
	"DIXIE_JWT_PRIVATE_KEY": "data.aws_secretsmanager_secret.jwt_private_key.arn",
	"DIXIE_ADMIN_KEY":       "data.aws_secretsmanager_secret.admin_key.arn",
}

// TestTerraformSecrets: secrets are references to Secrets Manager, by the names of
// the specification, and nothing that may be one is written anywhere.
func TestTerraformSecrets(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	for name, want := range map[string]string{
		"database_url": "dixie/database-url", "jwt_private_key": "dixie/jwt-private-key", "admin_key": "dixie/admin-key",
	} {
		if got := tf.text(tf.one("data", "aws_secretsmanager_secret", name), "name"); got != want {
			t.Errorf("the secret %s is %s, want %s", name, got, want)
		}
	}
	if n := len(tf.all("data", "aws_secretsmanager_secret")); n != len(secretSources) {
		t.Errorf("there are %d secrets", n)
	}
	if found := append(tf.all("data", "aws_secretsmanager_secret_version"), tf.all("resource", "aws_secretsmanager_secret_version")...); len(found) > 0 {
		t.Error("the value of a secret would be in the state")
	}
	for task, want := range map[string]map[string]string{
		"dixie": secretSources, "migrate": {"DATABASE_URL": secretSources["DATABASE_URL"]},
	} {
		c, got := tf.container(task), map[string]string{}
		for _, secret := range c.Secrets {
			got[secret.Name] = secret.ValueFrom
		}
		if !maps.Equal(got, want) {
			t.Errorf("secrets of %s are %v, want %v", task, got, want)
		}
		for _, setting := range c.Environment {
			if secretSources[setting.Name] != "" || regexp.MustCompile(`KEY$|SECRET|TOKEN|PASSWORD`).MatchString(setting.Name) {
				t.Errorf("%s is written in plain text", setting.Name)
			}
		}
	}
	for _, name := range tf.files {
		if match := regexp.MustCompile(`[a-z]+://[^/\s"]*:[^/\s"]*@|PRIVATE KEY-----|dxk_\w`).FindString(readFile(t, name)); match != "" {
			t.Errorf("%s has a secret: %s", name, match)
		}
	}
}

// TestTerraformSettings: each variable of the tasks is a setting of the service,
// and with all of them it starts.
func TestTerraformSettings(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	env := map[string]string{}
	for task, command := range map[string][]string{"dixie": {"serve"}, "migrate": {"migrate", "up"}} {
		c := tf.container(task)
		known := settings(t, append([]string{dixie(t)}, command...)...)
		if !slices.Equal(c.Command, command) {
			t.Errorf("%s runs %v", task, c.Command)
		}
		for _, setting := range c.Environment {
			env[setting.Name] = setting.Value
			if !slices.Contains(known, setting.Name) {
				t.Errorf("%s gets %s, which %v does not read", task, setting.Name, command)
			}
		}
		for _, secret := range c.Secrets {
			if !slices.Contains(known, secret.Name) {
				t.Errorf("%s gets %s, which %v does not read", task, secret.Name, command)
			}
		}
	}
	for name, want := range map[string]string{"REDIS_URL": "redis://redis.internal:6379", "NATS_URL": "nats://nats.internal:4222", "DIXIE_NATS_PUBLISH": "false"} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if n := tf.inner(tf.one("resource", "aws_ecs_service", "dixie"), "load_balancer"); tf.text(n, "container_port") != env["PORT"] {
		t.Errorf("the load balancer asks port %s of a service on port %s", tf.text(n, "container_port"), env["PORT"])
	}
	// As in the cloud, except for what is shared on this machine.
	env["PORT"], env["DIXIE_METRICS_ADDR"] = "0", "127.0.0.1:0"
	env["DIXIE_ALLOWLIST_PATH"] = filepath.Join(t.TempDir(), "allowlist.json")
	env["DIXIE_ADMIN_KEY"] = "admin-key-of-the-tests"
	delete(env, "DIXIE_JWT_PREVIOUS_PUBLIC_KEYS") // signsTokens wants one key
	project := compose(t)
	env["DIXIE_JWT_PRIVATE_KEY"] = *project.Services["dixie"].Environment["DIXIE_JWT_PRIVATE_KEY"]
	var list []string
	for name, value := range env {
		list = append(list, fmt.Sprintf("%s=%s", name, value))
	}
	signsTokens(t, list)
}
