package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// TestTerraformTask: the container is confined as the image allows, and waits long
// enough for the service to stop.
func TestTerraformTask(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	image := stageNamed(t, "dixie")
	for _, task := range []string{"dixie", "migrate"} {
		c := tf.container(task)
		if c.User != image.one(t, "USER") || !c.ReadonlyRootFilesystem || !slices.Equal(c.LinuxParameters.Capabilities.Drop, []string{"ALL"}) || !c.Essential {
			t.Errorf("%s may do more than it needs: %+v", task, c)
		}
		if c.LogConfiguration.Options["awslogs-group"] != "aws_cloudwatch_log_group.dixie.name" {
			t.Errorf("%s logs to %v", task, c.LogConfiguration.Options)
		}
	}
	c := tf.container("dixie")
	if len(c.PortMappings) != 1 || c.PortMappings[0].ContainerPort != 3001 || c.PortMappings[0].HostPort != 3001 {
		t.Errorf("ports are %+v", c.PortMappings)
	}
	if len(c.MountPoints) != 1 || c.MountPoints[0].ContainerPath != image.one(t, "VOLUME") {
		t.Errorf("volumes are %+v, the image has %s", c.MountPoints, image.one(t, "VOLUME"))
	}
	if want := []string{"CMD", image.exec(t, "ENTRYPOINT")[0], "healthcheck", "--live"}; !slices.Equal(c.HealthCheck.Command, want) {
		t.Errorf("the health check is %v, want %v", c.HealthCheck.Command, want)
	}
	if c.StopTimeout < 30 {
		t.Errorf("it is killed after %d s, before it has stopped", c.StopTimeout)
	}
}

// TestTerraformBalancer: it asks whether a task can serve, where the service
// listens, and takes requests over TLS only.
func TestTerraformBalancer(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	group := tf.one("resource", "aws_lb_target_group", "dixie")
	if port, path := tf.text(group, "port"), tf.text(tf.inner(group, "health_check"), "path"); port != "3001" || path != "/readyz?exclude=lag" {
		t.Errorf("it asks %s on port %s", path, port)
	}
	rule := tf.one("resource", "aws_lb_listener_rule", "dixie")
	if got := tf.text(tf.inner(rule, "action"), "target_group_arn"); got != "aws_lb_target_group.dixie.arn" {
		t.Errorf("its rule leads to %s", got)
	}
	if got := tf.text(rule, "priority"); got != "200" {
		t.Errorf("the rule's priority is %s", got)
	}
	if condition := tf.attribute(tf.inner(tf.inner(group, "lifecycle"), "precondition"), "condition"); condition.True() {
		t.Error("a listener of an unknown protocol is taken")
	}
	service := tf.one("resource", "aws_ecs_service", "dixie")
	if least, most := tf.text(service, "deployment_minimum_healthy_percent"), tf.text(service, "deployment_maximum_percent"); least != "100" || most != "200" {
		t.Errorf("deployments keep %s %% to %s %% of the tasks", least, most)
	}
}

// TestTerraformIAM: whoever starts tasks may read the three secrets, fetch the image
// and write the log, and nothing else.
func TestTerraformIAM(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]cty.Value{"with a key": deployment()["secrets_kms_key_arn"], "without": cty.NullVal(cty.String)} {
		values := deployment()
		values["secrets_kms_key_arn"] = key
		tf := readTerraform(t, values)
		want := map[string][]string{
			"secretsmanager:GetSecretValue": slices.Sorted(maps.Values(secretSources)),
			"logs:CreateLogStream":          {"aws_cloudwatch_log_group.dixie.arn:*"}, "logs:PutLogEvents": {"aws_cloudwatch_log_group.dixie.arn:*"},
			"ecr:BatchCheckLayerAvailability": {asText(values["ecr_repository_arn"])}, "ecr:BatchGetImage": {asText(values["ecr_repository_arn"])},
			"ecr:GetDownloadUrlForLayer": {asText(values["ecr_repository_arn"])}, "ecr:GetAuthorizationToken": {"*"},
		}
		if !key.IsNull() {
			want["kms:Decrypt"] = []string{asText(key)}
		}
		if got := tf.allowed("execution"); !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: allowed is %v, want %v", name, got, want)
		}
	}
	tf := readTerraform(t, deployment())
	if roles, policies := tf.all("resource", "aws_iam_role"), tf.all("resource", "aws_iam_role_policy"); len(roles) != 1 || len(policies) != 1 {
		t.Errorf("there are %d roles and %d policies", len(roles), len(policies))
	}
	for _, block := range tf.all("resource") {
		if kind := block.Labels[0]; strings.HasPrefix(kind, "aws_iam_") && kind != "aws_iam_role" && kind != "aws_iam_role_policy" {
			t.Errorf("%v allows more", block.Labels)
		}
		if block.Body.Attributes["task_role_arn"] != nil {
			t.Errorf("%v have a role", block.Labels)
		}
	}
}

// allowed are the resources of each action of a policy.
func (tf *terraform) allowed(policy string) map[string][]string {
	tf.t.Helper()
	allowed := map[string][]string{}
	for _, block := range tf.one("data", "aws_iam_policy_document", policy).Body.Blocks {
		scope := tf.scope
		if block.Type == "dynamic" {
			each := tf.attribute(block, "for_each")
			if each.LengthInt() == 0 {
				continue
			}
			scope = scope.NewChild()
			scope.Variables = map[string]cty.Value{"statement": cty.ObjectVal(map[string]cty.Value{"value": each.Index(cty.Zero)})}
			block = tf.inner(block, "content")
		}
		var resources []string
		for it := tf.value(block.Body.Attributes["resources"].Expr, scope).ElementIterator(); it.Next(); {
			_, resource := it.Element()
			resources = append(resources, asText(resource))
		}
		slices.Sort(resources)
		for _, action := range tf.texts(block, "actions") {
			allowed[action] = append(allowed[action], resources...)
		}
	}
	return allowed
}

// rules are those of the security group, as "port to whom".
func (tf *terraform) rules(direction string) (rules []string) {
	tf.t.Helper()
	for _, block := range tf.all("resource", "aws_vpc_security_group_"+direction+"_rule") {
		scopes := []map[string]cty.Value{nil}
		if each := tf.attribute(block, "for_each"); !each.IsNull() {
			scopes = nil
			for it := each.ElementIterator(); it.Next(); {
				_, element := it.Element()
				scopes = append(scopes, map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"value": element})})
			}
		}
		if tf.text(block, "count") == "0" {
			scopes = nil
		}
		for _, variables := range scopes {
			scope := tf.scope.NewChild()
			scope.Variables = variables
			whom := ""
			for _, name := range []string{"cidr_ipv4", "cidr_ipv6", "prefix_list_id", "referenced_security_group_id"} {
				if attribute := block.Body.Attributes[name]; attribute != nil {
					whom += " " + asText(tf.value(attribute.Expr, scope))
				}
			}
			rules = append(rules, tf.text(block, "ip_protocol")+" "+tf.text(block, "from_port")+"-"+tf.text(block, "to_port")+whom)
		}
	}
	slices.Sort(rules)
	return rules
}

// TestTerraformNetwork: tasks reach PostgreSQL and NATS inside of 10.0.0.0/8, and
// else only what they cannot do without: finn, their files, and what starts them.
// Only the load balancer and Prometheus reach them.
func TestTerraformNetwork(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	want := []string{
		"tcp 2049-2049 sg-files", "tcp 3000-3000 10.0.0.0/8", "tcp 4222-4222 10.0.0.0/8",
		"tcp 443-443 10.0.0.0/8", "tcp 443-443 pl-1", "tcp 5432-5432 10.0.0.0/8",
	}
	if got := tf.rules("egress"); !slices.Equal(got, want) {
		t.Errorf("egress is %q, want %q", got, want)
	}
	if got, want := tf.rules("ingress"), []string{"tcp 3001-3001 sg-balancer", "tcp 9464-9464 sg-prometheus"}; !slices.Equal(got, want) {
		t.Errorf("ingress is %q, want %q", got, want)
	}
	if blocks := tf.one("resource", "aws_security_group", "dixie").Body.Blocks; len(blocks) != 1 || blocks[0].Type != "lifecycle" {
		t.Error("the group has rules of its own, which delete the others")
	}
	for _, found := range [][]string{{"aws_security_group_rule"}, {"aws_default_security_group"}} {
		if len(tf.all("resource", found...)) > 0 {
			t.Errorf("there are rules elsewhere: %v", found)
		}
	}
	for url, want := range map[string]string{"http://finn.internal": "80", "https://finn.internal": "443", "https://finn.internal:8443": "8443"} {
		values := deployment()
		values["finn_url"], values["metrics_security_group_id"] = cty.StringVal(url), cty.NullVal(cty.String)
		tf := readTerraform(t, values)
		if got := tf.rules("egress"); !slices.Contains(got, "tcp "+want+"-"+want+" 10.0.0.0/8") {
			t.Errorf("for %s egress is %q", url, got)
		}
		if got := tf.rules("ingress"); len(got) != 1 {
			t.Errorf("without Prometheus ingress is %q", got)
		}
	}
}

// TestTerraformScaling: between the bounds, by the load of the processors.
func TestTerraformScaling(t *testing.T) {
	t.Parallel()
	tf := readTerraform(t, deployment())
	target := tf.one("resource", "aws_appautoscaling_target", "dixie")
	if least, most := tf.text(target, "min_capacity"), tf.text(target, "max_capacity"); least != "2" || most != "6" {
		t.Errorf("there are %s to %s tasks", least, most)
	}
	if got := tf.text(target, "resource_id"); got != "service/main/aws_ecs_service.dixie.name" {
		t.Errorf("what is scaled is %s", got)
	}
	service := tf.one("resource", "aws_ecs_service", "dixie")
	if ignored := tf.inner(service, "lifecycle").Body.Attributes["ignore_changes"]; ignored == nil {
		t.Error("each apply undoes what autoscaling did")
	}
}
