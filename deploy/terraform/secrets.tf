# Secrets are made and filled outside of Terraform, whose state would show them.

data "aws_secretsmanager_secret" "database_url" {
  name = "dixie/database-url"
}

data "aws_secretsmanager_secret" "jwt_private_key" {
  name = "dixie/jwt-private-key"
}

data "aws_secretsmanager_secret" "admin_key" {
  name = "dixie/admin-key"
}
