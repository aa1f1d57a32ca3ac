output "security_group_id" {
  description = "Security group of the tasks, which database, NATS, finn and file system have to let in."
  value       = aws_security_group.dixie.id
}

output "log_group" {
  description = "Log group of the service."
  value       = aws_cloudwatch_log_group.dixie.name
}

output "migrate_command" {
  description = "Command that brings the schema up to date with the image that was applied last."
  value = join(" ", [
    "aws ecs run-task --region", var.region, "--cluster", var.cluster_name, "--launch-type FARGATE",
    "--task-definition", aws_ecs_task_definition.migrate.family,
    "--network-configuration", "'awsvpcConfiguration={subnets=[${join(",", var.subnet_ids)}],securityGroups=[${aws_security_group.dixie.id}]}'",
  ])
}
