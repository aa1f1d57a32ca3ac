# What each alarm means and what to do about it is in docs/operations.md, under
# the alarm's name without the prefix.

locals {
  balancer_dimensions = {
    LoadBalancer = data.aws_lb.main.arn_suffix
    TargetGroup  = aws_lb_target_group.dixie.arn_suffix
  }

  # Lines of the log that alarms count. Their texts are promises of the service.
  log_patterns = {
    BreakerOpened  = "{ ($.msg = \"circuit_breaker_transition\") && ($.to = \"open\") }"
    DeniedRequests = "{ ($.msg = \"request\") && ($.access = \"deny\") }"
    ProjectorLag   = "{ $.msg = \"projections are behind\" }"
  }
}

resource "aws_cloudwatch_metric_alarm" "unhealthy_hosts" {
  alarm_name          = "${var.name}-unhealthy-hosts"
  alarm_description   = "Tasks cannot serve, by the load balancer's health check."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "UnHealthyHostCount"
  dimensions          = local.balancer_dimensions
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

# Tasks that do not even start are no unhealthy hosts: they are none at all.
resource "aws_cloudwatch_metric_alarm" "no_healthy_hosts" {
  alarm_name          = "${var.name}-no-healthy-hosts"
  alarm_description   = "No task can serve."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  dimensions          = local.balancer_dimensions
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  alarm_name          = "${var.name}-latency"
  alarm_description   = "One in a hundred requests waits too long for its answer."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  dimensions          = local.balancer_dimensions
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 10
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_latency_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

resource "aws_cloudwatch_log_metric_filter" "dixie" {
  for_each = local.log_patterns

  name           = "${var.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.dixie.name
  pattern        = each.value

  metric_transformation {
    namespace     = var.name
    name          = each.key
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "breaker_open" {
  alarm_name          = "${var.name}-breaker-open"
  alarm_description   = "Requests to finn fail and are held back."
  namespace           = var.name
  metric_name         = "BreakerOpened"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  depends_on = [aws_cloudwatch_log_metric_filter.dixie]
}

resource "aws_cloudwatch_metric_alarm" "denied_spike" {
  alarm_name          = "${var.name}-denied-spike"
  alarm_description   = "Many requests are denied."
  namespace           = var.name
  metric_name         = "DeniedRequests"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_denied_per_minute
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  depends_on = [aws_cloudwatch_log_metric_filter.dixie]
}

# Each health check of a task tells of it.
resource "aws_cloudwatch_metric_alarm" "projector_lag" {
  alarm_name          = "${var.name}-projector-lag"
  alarm_description   = "What is appended takes longer than max_lag to be read."
  namespace           = var.name
  metric_name         = "ProjectorLag"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  depends_on = [aws_cloudwatch_log_metric_filter.dixie]
}
